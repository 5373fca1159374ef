"""Frames of a camera, a network address or a file as they come: only the newest one is kept.

A thread reads without a pause, so that a slow network predicts the present and not a queue. A file is read at
its own speed.
"""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from prediction.frames import open_video
from utils import InputError

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
ANSWER = 5.0  # seconds that an address has to answer
CAMERA_FPS = 25.0  # frames per second of a source that does not say


class LiveSource:
    """The newest frame of a source, from `start` on.

    Args:
        source: number of a camera, an address (rtsp://, http://), or a video file.

    Attributes:
        fps: frames per second that the source announces.
        name: the source, for people.

    Raises:
        InputError: there is no such camera or file, or the address does not answer.
    """

    def __init__(self, source: str) -> None:
        self.name = source
        self._new = threading.Condition()
        self._frame: Tensor | None = None
        self._number, self._ended = 0, False
        self.trouble: InputError | None = None
        self._stop = threading.Event()
        file = Path(source).expanduser()
        if source.isdecimal() or "://" in source:
            self._capture = _camera(int(source)) if source.isdecimal() else _address(source)
            fps = self._capture.get(_property("FPS"))
            self.fps = fps if 1 <= fps <= 240 else CAMERA_FPS
            read = self._read_capture
        else:
            if not file.is_file():
                raise InputError(
                    f"there is no video {file}; a live source is the number of a camera, such as 0, an "
                    "address, such as rtsp://..., or a file"
                )
            self._frames = open_video(file)
            self.fps = self._frames.fps
            read = self._read_file
        self._thread = threading.Thread(target=self._run, args=(read,), name="live source", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def next(self, seen: int, timeout: float = ANSWER) -> tuple[int, Tensor] | None:
        """The newest frame after number `seen`, (3, h, w) uint8, with its number; None at the end.

        Raises:
            InputError: no frame has come for `timeout` seconds, or the source cannot be read further.
        """
        with self._new:
            came = self._new.wait_for(lambda: self._number > seen or self._ended, timeout)
            if self._number > seen:
                return self._number, self._frame
        if self.trouble is not None:
            raise self.trouble
        if not came:
            raise InputError(f"{self.name} has sent no frame for {timeout:.0f} s; is it still connected?")
        return None

    def close(self) -> None:
        """Stop reading, and let go of the camera."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(ANSWER)

    def _run(self, read: object) -> None:
        try:
            read()
        except InputError as error:
            self.trouble = error
        with self._new:
            self._ended = True
            self._new.notify_all()

    def _put(self, frame: Tensor) -> None:
        with self._new:
            self._frame, self._number = frame, self._number + 1
            self._new.notify_all()

    def _read_file(self) -> None:
        started = time.monotonic()
        for number, frame in enumerate(self._frames.images):
            if isinstance(frame, InputError):
                raise frame
            self._put(frame)
            if self._stop.wait(max(0.0, started + (number + 1) / self.fps - time.monotonic())):
                return

    def _read_capture(self) -> None:
        while not self._stop.is_set():
            good, frame = self._capture.read()
            if not good:
                self._capture.release()
                raise InputError(f"{self.name} sends no more frames")
            self._put(torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).permute(2, 0, 1))
        self._capture.release()


def _property(name: str) -> int:
    import cv2

    return getattr(cv2, f"CAP_PROP_{name}")


def _camera(number: int) -> object:
    """OpenCV's reader of a camera of this machine."""
    import cv2

    level = cv2.setLogLevel(0)
    try:
        capture = cv2.VideoCapture(number)
    finally:
        cv2.setLogLevel(level)
    if not capture.isOpened():
        raise InputError(f"there is no camera {number} on this machine, or another program uses it")
    return capture


def _address(url: str) -> object:
    """OpenCV's reader of an address that answers."""
    import cv2

    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise InputError(f"a live address begins with {', '.join(f'{s}://' for s in PORTS)}, got {url}")
    try:
        port = parts.port or PORTS[parts.scheme]
    except ValueError:
        raise InputError(f"{url} has a port that is not a number") from None
    place = f"{parts.hostname}:{port}"
    try:
        socket.create_connection((parts.hostname or "", port), ANSWER).close()
    except OSError as error:
        reason = error.strerror or "no answer"
        raise InputError(
            f"{place} does not answer ({reason}); is the camera on, and the address right?"
        ) from None
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        int(1000 * ANSWER),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        int(1000 * ANSWER),
    ]
    level = cv2.setLogLevel(0)
    try:
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
    finally:
        cv2.setLogLevel(level)
    if not capture.isOpened():
        raise InputError(
            f"{place} answers, but not with a video; are path, name and password of the address right?"
        )
    return capture
