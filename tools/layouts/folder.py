"""Folders of frames in the layout of SC-Depth."""

from __future__ import annotations

from datasets.synthetic import Camera, View
from tools.layouts import LAYOUTS
from tools.layouts._base import RATE, Layout, Plan, looking_ahead, numbers, save_depth, save_image, save_text


@LAYOUTS.register("folder")
class SceneFolders(Layout):
    """SC-Depth's folders: training/<scene>/*.jpg with cam.txt and depth/*.png (uint16, depth * 256)."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.camera = Camera.like_kitti(plan.height, plan.width)

    def scene(self, sequence: int) -> str:
        return f"scene_{sequence:03d}"

    def view(self, sequence: int, frame: int) -> View:
        world, time = self.plan.world(sequence), frame / RATE
        return world.render(self.camera, world.ego_pose(time) @ looking_ahead(0, 0, 1.65), time)

    def write_frame(self, sequence: int, frame: int) -> None:
        folder, view = self.plan.out / "training" / self.scene(sequence), self.view(sequence, frame)
        save_image(folder / f"{frame:06d}.{self.plan.ext}", view.image)
        save_depth(folder / f"depth/{frame:06d}.png", view.depth)

    def write_sequence(self, sequence: int) -> None:
        rows = "".join(numbers(row) + "\n" for row in self.camera.intrinsics)
        save_text(self.plan.out / "training" / self.scene(sequence) / "cam.txt", rows)

    def write_splits(self) -> None:
        held_out = self.held_out()
        training = [n for n in range(self.plan.sequences) if n not in held_out]
        for name, sequences in (("train", training), ("val", held_out or training)):
            lines = "".join(f"{self.scene(n)}\n" for n in sequences)
            save_text(self.plan.out / f"training/{name}.txt", lines)

    def gallery_view(self, sequence: int) -> View:
        return self.view(sequence, self.plan.frames // 2)
