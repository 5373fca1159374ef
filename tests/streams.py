"""Network cameras for tests, on this machine: Motion JPEG over RTSP, and a server that stays silent.

RTSP is that of RFC 2326 with its packets interleaved on the connection (section 10.12); the frames are
baseline JPEG with the standard tables, packed as RFC 2435 says.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator

import numpy as np
from PIL import Image

QUALITY = 80  # of the JPEG images; RFC 2435 derives their tables from this number as libjpeg does
RATE = 20  # frames per second
SDP = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=framerate:{RATE}\r\n"


@contextlib.contextmanager
def rtsp_camera(image: np.ndarray, frames: int | None = None) -> Iterator[str]:
    """The address of a camera that sends an (h, w, 3) uint8 image again and again, or `frames` times."""

    class Handler(_Rtsp):
        jpeg, size, count = scan_of(image), image.shape[:2], frames
        stopped = threading.Event()

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"rtsp://127.0.0.1:{server.server_address[1]}/stream"
    finally:
        Handler.stopped.set()
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Host and port of a server that takes connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def scan_of(image: np.ndarray) -> bytes:
    """The entropy-coded scan of (h, w, 3) uint8 as a baseline JPEG, its colours at half resolution."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY, subsampling="4:2:0")
    encoded = buffer.getvalue()
    start = encoded.index(b"\xff\xda")
    return encoded[start + 2 + int.from_bytes(encoded[start + 2 : start + 4], "big") : -2]


class _Rtsp(socketserver.StreamRequestHandler):
    jpeg: bytes
    size: tuple[int, int]
    count: int | None
    stopped: threading.Event

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while request := self.rfile.readline().decode().split():
                fields = dict(iter(lambda: self._field(), None))
                self._answer(request[0], fields)
                if request[0] == "PLAY":
                    return self._play()

    def _field(self) -> tuple[str, str] | None:
        name, colon, value = self.rfile.readline().decode().strip().partition(": ")
        return (name, value) if colon else None

    def _answer(self, method: str, fields: dict[str, str]) -> None:
        status, lines, body = "200 OK", [f"CSeq: {fields['CSeq']}", "Session: 1"], ""
        if method == "OPTIONS":
            lines.append("Public: DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            body = SDP
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP" and "TCP" not in fields["Transport"]:
            status = "461 Unsupported Transport"  # the client asks again, for packets on the connection
        elif method == "SETUP":
            lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        self.wfile.write("\r\n".join([f"RTSP/1.0 {status}", *lines, "", body]).encode())

    def _play(self) -> None:
        height, width = self.size
        for number in itertools.islice(itertools.count(), self.count):
            rtp = struct.pack(">BBHII", 0x80, 0x80 | 26, number % 65536, number * 90000 // RATE, 1)
            jpeg = struct.pack(">IBBBB", 0, 1, QUALITY, width // 8, height // 8)  # offset 0, type 1
            packet = rtp + jpeg + self.jpeg
            self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
            if self.stopped.wait(1 / RATE):
                return
