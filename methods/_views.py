"""Views: the same frame set shown in two more ways. Depth is learned from each, and all have to agree on it.

    local crop       a window of the image, r times as large:   x' + 0.5 = r (x + 0.5) - x0
    patch reshuffle  cut at a column and at a row, the parts swapped:   x' = (x - x0) mod W

Each is a pair: `apply` makes the view, `restore` brings what the network said of it back to the image's
pixels. A crop keeps its own place in the geometry: a longer focal length, a principal point of its own, the
same motion; what looks r times as large looks r times as near. A reshuffled image has no geometry; the
restored disparity has the image's (Liu et al., Towards better data exploitation in self-supervised
monocular depth estimation, RA-L 2024).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from layers import invert_intrinsics, resampling_matrix
from structures import Batch, Frame, Prediction
from utils import InputError

if TYPE_CHECKING:
    from methods.monodepth2 import Monodepth2

DRAWS = 5  # numbers in [0, 1) that a sample's views need


@dataclass(frozen=True)
class Views:
    """Which views are made in training, and how. The constructor is the config's section `views`.

    Args:
        local_crop: show a zoomed window as well.
        patch_reshuffle: show the image with its parts swapped as well.
        consistency_weight: of the term `depth_agreement`, by which the views agree with the image.
        detail: crops are made of images this many times as large as the network's, so that a crop shows
            what a smaller image has lost; 2 is all that a zoom of 2 can show. Loading takes longer.
        smallest_zoom, largest_zoom: range of r.
        published_camera: treat crops as the published code does: whole pixels, the intrinsics of the whole
            image, and motions bent to fit by the batch's first intrinsics, as if the principal point were
            the image's middle.

    Raises:
        InputError: a zoom or a detail below 1, or an empty range.
    """

    local_crop: bool = False
    patch_reshuffle: bool = False
    consistency_weight: float = 0.07
    detail: int = 1
    smallest_zoom: float = 1.2
    largest_zoom: float = 2.0
    published_camera: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.smallest_zoom <= self.largest_zoom:
            raise InputError(
                f"views zoom in: need 1 <= smallest_zoom <= largest_zoom, got {self.smallest_zoom} and "
                f"{self.largest_zoom}"
            )

        if self.detail < 1:
            raise InputError(f"views.detail is a whole number from 1 on, got {self.detail}")

    def __bool__(self) -> bool:
        return self.local_crop or self.patch_reshuffle

    def look(self, method: Monodepth2, batch: Batch, prediction: Prediction, motions: dict) -> None:
        """Add the views to a prediction.

        `prediction.extra["views"]` has name → (Batch, Prediction), which every loss term reads like the
        plain ones; `prediction.extra["agreement"]` has name → scale → depth in the view and in the plain
        image at the same pixels, (B·N, 1, h, w) each, and where they can be compared (or None).
        """
        draws = _draws(batch)
        looks, agreement = {}, {}
        if self.local_crop:
            looks["local"], agreement["local"] = self._local(method, batch, prediction, motions, draws)
        if self.patch_reshuffle:
            found = self._reshuffled(method, batch, prediction, motions, draws)
            looks["reshuffled"], agreement["reshuffled"] = found
        prediction.extra |= {"views": looks, "agreement": agreement}

    def _local(
        self, method: Monodepth2, batch: Batch, plain: Prediction, motions: dict, draws: Tensor
    ) -> tuple[tuple[Batch, Prediction], dict[int, Any]]:
        size = batch.images[0].shape[-2:]
        zooms = self.smallest_zoom, self.largest_zoom
        crop = LocalCrop.draw(draws, size, zooms, self.published_camera)
        cropped = crop.apply(batch)
        if self.published_camera:
            bent = crop.bend(plain.T_source_from_target, batch.intrinsics)
            cropped, motions = dataclasses.replace(cropped, T_source_from_target=bent), {}
        prediction = method.look(cropped.network_images[0])
        method.resample(cropped, prediction, motions, plain.depths)
        agreement = {}
        for scale, disparity in prediction.disparities.items():
            reference = plain.depths[scale]
            restored, inside = crop.restore(disparity, reference.shape[-2:])
            depth = method.depth_of(restored, cropped)
            if self.published_camera:
                depth = depth * _beside(depth, crop.zoom)[:, None, None, None]
            agreement[scale] = depth, reference, inside
        return (cropped, prediction), agreement

    def _reshuffled(
        self, method: Monodepth2, batch: Batch, plain: Prediction, motions: dict, draws: Tensor
    ) -> tuple[tuple[Batch, Prediction], dict[int, Any]]:
        image = batch.network_images[0]
        shuffle = PatchReshuffle.draw(draws, image.shape[-2:])
        prediction = method.look(shuffle.apply(image))
        for maps in (prediction.disparities, prediction.masks):
            for scale, values in maps.items():
                maps[scale] = shuffle.restore(values)
        method.resample(batch, prediction, motions)
        agreement = {
            scale: (method.depth_of(disparity, batch), method.depth_of(plain.disparities[scale], batch), None)
            for scale, disparity in prediction.disparities.items()
        }
        return (batch, prediction), agreement


def _draws(batch: Batch) -> Tensor:
    """(B·N, DRAWS) in [0, 1) on the CPU: those of `Augment`, which depend on seed, epoch and sample alone;
    of a batch that has not been through it, torch's. The cameras of a sample share theirs.
    """
    if "draws" in batch.extra:
        return batch.extra["draws"].double().cpu()
    return torch.rand(len(batch), DRAWS, dtype=torch.float64).repeat_interleave(batch.cameras, 0)


def _beside(tensor: Tensor, values: Tensor) -> Tensor:
    """A few numbers on the device and in the precision of a tensor. They follow the GPU's own order, so that
    Python may go on ahead of it.
    """
    return values.to(tensor, non_blocking=True)


# -------------------------------------------------------------------------------------------- local crop


@dataclass(frozen=True)
class LocalCrop:
    """A window of each image, as large as the image once it is zoomed. All float64, on the CPU.

    Attributes:
        size: (H, W) of image and crop.
        zoom: (n,) r, how much nearer things look.
        scale: (n, 2) zoom along x and y: r, but for the published code's whole pixels.
        offset: (n, 2) x0 and y0, the window's corner in the zoomed image, pixels.
        published: the window that `restore` fills and the camera are the published ones.
    """

    size: tuple[int, int]
    zoom: Tensor
    scale: Tensor
    offset: Tensor
    published: bool = False

    @staticmethod
    def draw(
        draws: Tensor, size: tuple[int, int], zooms: tuple[float, float] = (1.2, 2.0), published: bool = False
    ) -> LocalCrop:
        """From (n, DRAWS) numbers in [0, 1): zoom, column, row, and two that it leaves alone."""
        zoom = zooms[0] + (zooms[1] - zooms[0]) * draws[:, 0]
        image = draws.new_tensor([size[1], size[0]])
        zoomed = zoom[:, None] * image
        zoomed = zoomed.floor() if published else zoomed
        offset = (zoomed - image) * draws[:, 1:3]
        return LocalCrop(
            tuple(size), zoom, zoomed / image, offset.floor() if published else offset, published
        )

    def apply(self, batch: Batch) -> Batch:
        """The batch seen through the window: images, maps, points and, unless published, intrinsics.

        Of the images with jitter only the target is there, since nothing else is shown to a network.
        """
        K, extra = batch.intrinsics, dict(batch.extra)
        if not self.published:
            follow = torch.eye(3, dtype=torch.float64).repeat(len(self.zoom), 1, 1)
            follow[:, 0, 0], follow[:, 1, 1] = self.scale.unbind(1)
            follow[:, :2, 2] = (self.scale - 1) / 2 - self.offset
            K, extra["zoom"] = _beside(K, follow) @ K, _beside(K, self.zoom)
        shown = batch if batch.detailed is None else batch.detailed
        zoomed = self._resampler(shown.images[0])
        images: dict[Frame, Tensor] = {frame: zoomed(image) for frame, image in shown.images.items()}
        augmented: dict[Frame, Tensor] | None = None
        if shown.augmented is not None:
            augmented = {0: zoomed(shown.augmented[0])}
        return dataclasses.replace(
            batch,
            images=images,
            intrinsics=K,
            augmented=augmented,
            detailed=None,
            maps={name: self._map(values) for name, values in batch.maps.items()},
            points={name: self._points(points) for name, points in batch.points.items()},
            extra=extra,
        )

    def restore(self, disparity: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """A map of the crop at the image's pixels.

        Args:
            disparity: (n, 1, h, w) of any size.
            size: (H', W') of the result.

        Returns:
            (n, 1, H', W'), and (n, 1, H', W') bool: the pixels that the window shows.
        """
        first, share = self._window()
        places = []
        for axis, length in ((0, size[1]), (1, size[0])):
            centres = (torch.arange(length, dtype=torch.float64) + 0.5) / length
            places.append((centres - first[:, axis, None]) / share[:, axis, None])  # in 0 ... 1 of the crop
        x, y = (_beside(disparity, place) for place in places)
        x, y = torch.broadcast_tensors(x[:, None, :], y[:, :, None])
        grid = 2 * torch.stack([x, y], -1) - 1
        inside = ((x > 0) & (x < 1) & (y > 0) & (y < 1))[:, None]
        restored = F.grid_sample(disparity, grid, "bilinear", "border", align_corners=False)
        return restored, inside

    def bend(self, poses: dict[Frame, Tensor], intrinsics: Tensor) -> dict[Frame, Tensor]:
        """Published: motions as they look to a camera whose intrinsics are those of the whole image.

        A point X of the image is Rc X for the crop's camera, so R and t become Rc R inv(Rc) and Rc t, with
        Rc = [1 0 -gx / 2 fx; 0 1 -gy / 2 fy; 0 0 f]; g is the window's middle and f half its width, in
        [-1, 1], and fx, fy are the first image's, over W and H.
        """
        corner = self.offset / (self.scale * self._pixels() - 1)
        extent = (self._pixels() - 1) / (self.scale * self._pixels() - 1)
        middle = _beside(intrinsics, 2 * corner + extent - 1)
        focal = intrinsics[0].diagonal()[:2] / _beside(intrinsics, self._pixels())
        Rc = torch.eye(3, device=intrinsics.device).repeat(len(self.zoom), 1, 1)
        Rc[:, :2, 2] = -middle / (2 * focal)
        Rc[:, 2, 2] = _beside(intrinsics, extent[:, 0])
        bent = {}
        for frame, T in poses.items():
            top = torch.cat([Rc @ T[:, :3, :3] @ invert_intrinsics(Rc), Rc @ T[:, :3, 3:]], 2)
            bent[frame] = torch.cat([top, T[:, 3:]], 1)
        return bent

    def image(self, image: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 1], or of another size and so with more detail, to (n, C, H, W)."""
        return self._resampler(image)(image)

    def _resampler(self, like: Tensor) -> Callable[[Tensor], Tensor]:
        """What makes the crop of images of one size, through Lanczos' window; a matrix along each axis."""
        matrices = []
        for axis, length in ((0, self.size[1]), (1, self.size[0])):
            old = like.shape[3 - axis]
            scale, offset = _beside(like, self.scale[:, axis] * length / old), self.offset[:, axis]
            matrices.append(resampling_matrix(scale, _beside(like, offset), old, length)[:, None])
        across, down = matrices
        return lambda image: (down @ image @ across.mT).clamp_(0, 1)

    def _pixels(self) -> Tensor:
        return self.zoom.new_tensor([self.size[1], self.size[0]])

    def _window(self) -> tuple[Tensor, Tensor]:
        """(n, 2) corner and size of the window in the image, both over the image's size."""
        if not self.published:
            return self.offset / (self.scale * self._pixels()), 1 / self.scale
        corner = (self._pixels() * self.offset / (self.scale * self._pixels() - 1)).round()
        return corner / self._pixels(), (self._pixels() / self.zoom[:, None]).round() / self._pixels()

    def _map(self, values: Tensor) -> Tensor:
        """(n, C, h, w) of any type, by the nearest pixel."""
        first, share = self._window()
        index = []
        for axis, length in ((0, values.shape[3]), (1, values.shape[2])):
            centres = (torch.arange(length, dtype=torch.float64) + 0.5) / length
            places = (first[:, axis, None] + share[:, axis, None] * centres) * length
            index.append(places.long().clamp_(0, length - 1).to(values.device, non_blocking=True))
        rows = torch.arange(len(values), device=values.device)[:, None, None]
        return values[rows, :, index[1][:, :, None], index[0][:, None, :]].permute(0, 3, 1, 2)

    def _points(self, points: Tensor) -> Tensor:
        """(n, K, 2 + C); a point that the window does not show becomes a row of padding, depth 0."""
        scale, offset = (_beside(points, values)[:, None] for values in (self.scale, self.offset))
        places = scale * (points[..., :2] + 0.5) - 0.5 - offset
        last = _beside(points, self._pixels()) - 0.5
        shown = ((places >= -0.5) & (places <= last)).all(-1, keepdim=True)
        return torch.cat([places, points[..., 2:]], -1) * shown


# --------------------------------------------------------------------------------------- patch reshuffle


@dataclass(frozen=True)
class PatchReshuffle:
    """Where each image is cut.

    Attributes:
        size: (H, W) of the images.
        cuts: (column, row) of each: what lies left of the column goes to the right end, what lies above the
            row to the bottom.
    """

    size: tuple[int, int]
    cuts: list[tuple[int, int]]

    @staticmethod
    def draw(draws: Tensor, size: tuple[int, int]) -> PatchReshuffle:
        """From (n, DRAWS) numbers in [0, 1), the last two: the cuts lie in the middle eight tenths."""
        shares = (0.1 + 0.8 * draws[:, 3:5]).tolist()
        return PatchReshuffle(tuple(size), [(int(size[1] * x), int(size[0] * y)) for x, y in shares])

    def apply(self, image: Tensor) -> Tensor:
        """(n, C, H, W), the parts swapped."""
        return torch.stack([one.roll((-y, -x), (1, 2)) for one, (x, y) in zip(image, self.cuts)])

    def restore(self, values: Tensor) -> Tensor:
        """(n, C, H / 2**s, W / 2**s) of a reshuffled image, the parts back in their places."""
        factor = values.shape[-1] / self.size[1]
        restored = []
        for one, (x, y) in zip(values, self.cuts):
            seams = round((self.size[0] - y) * factor), round((self.size[1] - x) * factor)
            restored.append(one.roll((-seams[0], -seams[1]), (1, 2)))
        return torch.stack(restored)
