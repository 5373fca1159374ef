"""A local web page that shows images as they are made: Motion JPEG from Python's own HTTP server.

/         the page         /stream   the images, one after another         /status   JSON: rate and unit
"""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from utils import InputError

BOUNDARY = "image"
QUALITY = 85  # of the JPEG images
WAIT = 1.0  # seconds after which a viewer is sent the last image again

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Parallax live</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { margin: 0; background: #14161a; color: #e8e8e8; font: 16px/1.5 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: 0 2em; padding: .7em 1.2em; align-items: baseline; }
h1 { font-size: 1.1em; margin: 0; }
#note { color: #9aa0a8; }
img { display: block; margin: 0 auto; max-width: 100%; max-height: calc(100vh - 7em); }
footer { padding: .7em 1.2em; color: #9aa0a8; }
footer i { display: inline-block; width: 9em; height: .8em; margin: 0 .6em; border-radius: 2px;
  background: linear-gradient(90deg, #fcfdbf, #fc8961, #b73779, #51127c, #000004); }
</style></head>
<body><header><h1>Parallax live</h1><span id="rate"></span><span id="note"></span></header>
<img src="/stream" alt="image and depth">
<footer>near <i></i> far</footer>
<script>
const put = (id, text) => document.getElementById(id).textContent = text;
function tell(state) {
  put("rate", state.rate.toFixed(1) + " frames per second");
  const recorded = state.recording ? ", recorded to " + state.recording : "";
  put("note", state.source + recorded + "; depth: " + state.unit);
}
async function ask() {
  try { tell(await (await fetch("/status")).json()); }
  catch (error) { put("rate", "ended"); clearInterval(timer); }
}
tell(STATUS);
const timer = setInterval(ask, 1000);
</script></body></html>
"""


class LivePage:
    """Serves images to browsers until `close`.

    Args:
        host: address that listens; 127.0.0.1 is this machine only.
        port: its port; 0 for a free one.

    Attributes:
        url: address of the page.
        status: the answer to `/status`: `rate`, `unit`, `source`, `recording`.

    Raises:
        InputError: the port is in use, or the address not of this machine.
    """

    def __init__(self, host: str, port: int) -> None:
        self.status: dict[str, object] = {"rate": 0.0, "unit": "", "source": "", "recording": ""}
        self._new, self._jpeg, self._number, self._closed = threading.Condition(), b"", 0, False
        handler = type("Handler", (_Handler,), {"page": self})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"no page at {host}:{port} ({reason}); give another --port, or 0 for a free one"
            ) from None
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, name="live page", daemon=True).start()

    def show(self, image: np.ndarray) -> None:
        """Show (h, w, 3) uint8 RGB."""
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
        with self._new:
            self._jpeg, self._number = buffer.getvalue(), self._number + 1
            self._new.notify_all()

    def newest(self, seen: int) -> tuple[int, bytes] | None:
        """The newest image, after at most `WAIT` seconds; None after `close`."""
        with self._new:
            self._new.wait_for(lambda: self._number > seen or self._closed, WAIT)
            return None if self._closed else (self._number, self._jpeg)

    def close(self) -> None:
        """End all streams and the server."""
        with self._new:
            self._closed = True
            self._new.notify_all()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    page: LivePage

    def do_GET(self) -> None:
        if self.path == "/":
            status = json.dumps(self.page.status).replace("<", "\\u003c")  # no end of the script
            self._send("text/html; charset=utf-8", PAGE.replace("STATUS", status).encode())
        elif self.path == "/status":
            self._send("application/json", json.dumps(self.page.status).encode())
        elif self.path == "/stream":
            self._stream()
        else:
            self.send_error(404)

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        number = 0
        try:
            while (found := self.page.newest(number)) is not None:
                number, jpeg = found
                if jpeg:
                    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the viewer has gone

    def log_message(self, *_: object) -> None:
        """Say nothing about requests."""
