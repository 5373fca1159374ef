"""A point cloud that turns under the pointer: data as base64 in the page and a script of its own.

The view is perspective, turned about the cloud's median: drag turns, the wheel or two fingers zoom. Points
are drawn from far to near, once a frame of the screen at most.
"""

from __future__ import annotations

import base64

import numpy as np

SCRIPT = """
for (const canvas of document.querySelectorAll("canvas.cloud")) {
  const bytes = name => Uint8Array.from(atob(canvas.dataset[name]), c => c.charCodeAt(0));
  const xyz = new Int16Array(bytes("points").buffer), rgb = bytes("colours"), n = xyz.length / 3;
  const context = canvas.getContext("2d");
  const [depth, across, down] = [0, 1, 2].map(() => new Float32Array(n));
  const order = Uint32Array.from(depth.keys());
  let yaw = 0.35, pitch = 0.2, zoom = 1, waiting = false;
  const fingers = new Map();
  const apart = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  const enlarge = factor => { zoom = Math.max(0.3, Math.min(8, zoom * factor)); later(); };
  const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };
  function draw() {
    waiting = false;
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    for (let i = 0; i < n; i++) {
      const [x, y, z] = [xyz[3 * i] / 16000, xyz[3 * i + 1] / 16000, xyz[3 * i + 2] / 16000];
      const side = cy * x + sy * z, ahead = cy * z - sy * x;
      depth[i] = 2.6 + cp * ahead + sp * y;
      across[i] = side / depth[i]; down[i] = (cp * y - sp * ahead) / depth[i];
    }
    order.sort((a, b) => depth[b] - depth[a]);
    context.fillStyle = "#14181d"; context.fillRect(0, 0, canvas.width, canvas.height);
    const scale = 2 * canvas.height * zoom;
    for (const i of order) {
      if (depth[i] < 0.1) continue;
      const size = Math.min(9, 8 * Math.sqrt(zoom) / depth[i]);
      context.fillStyle = `rgb(${rgb[3 * i]},${rgb[3 * i + 1]},${rgb[3 * i + 2]})`;
      context.fillRect(canvas.width / 2 + scale * across[i], canvas.height / 2 + scale * down[i], size, size);
    }
  }
  canvas.onpointerdown = e => {
    fingers.set(e.pointerId, [e.clientX, e.clientY]); canvas.setPointerCapture(e.pointerId);
  };
  canvas.onpointerup = canvas.onpointercancel = e => { fingers.delete(e.pointerId); };
  canvas.onpointermove = e => {
    const last = fingers.get(e.pointerId);
    if (!last) return;
    const before = fingers.size > 1 ? apart() : 0;
    fingers.set(e.pointerId, [e.clientX, e.clientY]);
    if (before) { enlarge(apart() / before); return; }
    yaw -= (e.clientX - last[0]) / 150;
    pitch = Math.max(-1.5, Math.min(1.5, pitch + (e.clientY - last[1]) / 150)); later();
  };
  canvas.addEventListener("wheel", e => {
    e.preventDefault(); enlarge(Math.exp(-e.deltaY / 500));
  }, { passive: false });
  draw();
}
"""

STYLE = "canvas.cloud { width: 100%; border-radius: 5px; display: block; cursor: grab; touch-action: none; }"


def cloud_html(points: np.ndarray, colours: np.ndarray) -> str:
    """A canvas with its points; `SCRIPT` at the end of the page draws it.

    Args:
        points: (P, 3) x right, y down, z forward, any unit.
        colours: (P, 3) uint8 RGB.
    """
    centred = points - np.median(points, 0)
    reach = np.quantile(np.abs(centred).max(1), 0.98)
    stored = np.clip(16000 * centred / max(float(reach), 1e-12), -32000, 32000).astype("<i2")
    data = " ".join(
        f"data-{name}='{base64.b64encode(values.tobytes()).decode()}'"
        for name, values in (("points", stored), ("colours", np.ascontiguousarray(colours, np.uint8)))
    )
    return f"<canvas class='cloud' width='1032' height='520' {data}></canvas>"
