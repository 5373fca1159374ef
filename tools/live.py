"""Depth of a camera, a network address or a file while it is recorded, on a web page of this machine.

    python tools/live.py --source 0 --run runs/walk
    python tools/live.py --source rtsp://192.168.0.20/stream --run runs/walk --record street.mp4
    python tools/live.py --source walk.mp4 --run runs/walk --show depth --smooth 0.7

The page shows image and depth, and the frames per second. Frames that come faster than the network predicts
are left out. The range of the colours follows the scene slowly (exponentially), so that colours stay
comparable. Ctrl-C ends, and so does the end of a file.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flags
from tools._options import new_parser
from utils import InputError, run_main

if TYPE_CHECKING:
    from prediction.live import LiveSource
    from prediction.live_page import LivePage
    from predictor import Predictor

RATE = 0.9  # weight of the earlier frames in the shown rate


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--source", required=True, help="number of a camera, address (rtsp://...) or video file")
    flags.add_model_flags(parser)
    add(
        "--show",
        nargs="+",
        choices=("image", "depth"),
        default=["image", "depth"],
        help="panels (default: both)",
    )
    add(
        "--output_width",
        type=flags.at_least(16),
        metavar="PIXELS",
        help="width of the shown image; else each panel has the width of the network's input",
    )
    add("--smooth", type=float, default=0.0, metavar="X", help="smooth depth over time, 0 to 1 (default: 0)")
    add("--record", type=os.path.expanduser, metavar="FILE", help="also write a video, .mp4, .webm or .gif")
    add("--fps", type=flags.positive, help="frames per second of the recording; else those of the source")
    add("--host", default="127.0.0.1", help="address of the page; 0.0.0.0 shows it to the whole network")
    add(
        "--port",
        type=flags.at_least(0),
        default=8080,
        help="port of the page; 0 for a free one (default: 8080)",
    )
    add("--frames", type=flags.at_least(1), metavar="N", help="end after N frames")
    flags.add_device_flags(parser)
    given = flags.parse(parser, arguments)
    if given.fps and not given.record:
        raise InputError("--fps is the speed of a recording; add --record FILE, or leave it out")
    return given


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    from images import check_format
    from prediction.live import LiveSource
    from prediction.live_page import LivePage
    from videos import VIDEO_FORMATS

    if given.record:
        check_format(Path(given.record).suffix or given.record, VIDEO_FORMATS)
    flags.model_path(given)
    source = LiveSource(given.source)
    with contextlib.ExitStack() as stack:
        stack.callback(source.close)
        predictor = flags.open_predictor(given)
        if predictor.cameras > 1:
            raise InputError("a model of a rig predicts all its cameras together; give a model of one camera")
        page = LivePage(given.host, given.port)
        stack.callback(page.close)
        page.status |= {"unit": predictor.unit, "source": given.source, "recording": given.record or ""}
        source.start()
        print(f"{page.url} shows the depth of {given.source}; Ctrl-C ends", flush=True)
        count, rate = 0, 0.0
        with contextlib.suppress(KeyboardInterrupt):
            for count, rate in show(given, source, predictor, page):  # noqa: B007
                pass
    print(f"showed {count} frames, {rate:.1f} a second" + (f"; wrote {given.record}" if given.record else ""))


def show(given: argparse.Namespace, source: LiveSource, predictor: Predictor, page: LivePage) -> Any:
    """Predict and show frame after frame; yields the number of frames so far and their rate.

    Raises:
        InputError: the source stops sending, or the recording cannot be written.
    """
    from prediction.layout import COLOURS, FrameDrawer
    from prediction.smoothing import Smoothing
    from prediction.streaming import predict_images
    from videos import video

    draw = FrameDrawer(given.output_width, predictor.width, given.show, None)
    smooth, fps = Smoothing(given.smooth), given.fps or source.fps
    with contextlib.ExitStack() as stack:
        write: Callable[..., None] | None = None
        number = count = 0
        started, rate = time.monotonic(), 0.0
        while (found := source.next(number)) is not None:
            before, (number, image) = number, found
            drawn = draw(smooth(predict_images(predictor, [(count, image)])[0]))
            page.show(drawn)
            if given.record:
                write = write or stack.enter_context(video(given.record, fps, COLOURS))
                for _ in range(number - before if count else 1):  # again for those that were left out
                    write(drawn)
            count += 1
            now = time.monotonic()
            rate = (RATE * rate if rate else 0) + (1 - RATE if rate else 1) / max(now - started, 1e-6)
            started = now
            page.status["rate"] = rate
            yield count, rate
            if count == given.frames:
                return


if __name__ == "__main__":
    run_main(main)
