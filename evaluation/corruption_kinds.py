"""Image corruptions of the kinds of KITTI-C at five severities, drawn on the fly from a fixed seed.

    noise      gaussian_noise, shot_noise, impulse_noise, iso_noise
    blur       defocus_blur, glass_blur, motion_blur, zoom_blur
    weather    brightness, dark, fog, frost, snow, contrast
    digital    elastic, colour_quantisation, pixelate, jpeg

The kinds are those of Hendrycks and Dietterich 2019 (ImageNet-C) and Kong et al. 2023 (RoboDepth, KITTI-C).
Every kind takes an image in [0, 1], a severity from 0 to 4 and a random generator. Frost, fog and snow are
drawn from fractal noise, since the published textures are not redistributed; lengths in pixels grow with the
width of the image, relative to KITTI's 1242. Numbers are comparable between models evaluated here, and not
with those of the published image files.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Kind = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]  # (H, W, 3) float32 -> the same
WIDTH = 1242  # pixels; lengths below are for images of this width


def gaussian_noise(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """The same standard deviation in every pixel."""
    deviation = (0.06, 0.1, 0.15, 0.21, 0.3)[severity]
    return image + random.normal(0, deviation, image.shape)


def shot_noise(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Photons are counted: the variance grows with brightness."""
    photons = (60, 30, 15, 8, 4)[severity]
    return random.poisson(image * photons) / photons


def impulse_noise(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Some values are black or white."""
    share = (0.02, 0.05, 0.09, 0.15, 0.24)[severity]
    chance = random.random(image.shape)
    return np.where(chance < share / 2, 0, np.where(chance > 1 - share / 2, 1, image))


def iso_noise(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Photons and the amplifier of a sensor at high sensitivity: shot noise and Gaussian noise together."""
    photons, deviation = ((80, 0.03), (45, 0.05), (25, 0.08), (14, 0.12), (8, 0.17))[severity]
    counted = random.poisson(image * photons) / photons
    return counted + random.normal(0, deviation, image.shape)


def defocus_blur(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """A disk as the kernel."""
    radius = max(1.0, _pixels(image, (5, 7, 10, 14, 18)[severity]))
    return cv2.filter2D(image, -1, _disk(radius), borderType=cv2.BORDER_REFLECT_101)


def glass_blur(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Pixels exchange places with near ones, between two slight blurs."""
    reach = max(1.0, _pixels(image, (3, 4, 6, 8, 11)[severity]))
    height, width = image.shape[:2]
    blurred = cv2.GaussianBlur(image, (0, 0), max(0.4, reach / 4))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    shift = random.uniform(-reach, reach, (2, height, width)).astype(np.float32)
    moved = cv2.remap(
        blurred, columns + shift[0], rows + shift[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
    )
    return cv2.GaussianBlur(moved, (0, 0), max(0.4, reach / 4))


def motion_blur(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """A line as the kernel, in a direction near the horizontal."""
    length = max(3, round(_pixels(image, (16, 24, 34, 46, 60)[severity])))
    return cv2.filter2D(image, -1, _line(length, random.uniform(-30, 30)), borderType=cv2.BORDER_REFLECT_101)


def zoom_blur(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """The mean of the image at growing magnifications about its centre."""
    largest = (1.06, 1.1, 1.15, 1.2, 1.26)[severity]
    steps = np.linspace(1, largest, 12)
    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    zoomed = [
        cv2.warpAffine(
            image,
            cv2.getRotationMatrix2D(centre, 0, step),
            (width, height),
            borderMode=cv2.BORDER_REFLECT_101,
        )
        for step in steps
    ]
    return np.mean(zoomed, 0)


def brightness(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Overexposed: the same amount is added everywhere."""
    return image + (0.1, 0.2, 0.3, 0.4, 0.5)[severity]


def dark(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Little light: darker by a factor, with the noise of a short exposure."""
    factor = (0.6, 0.45, 0.32, 0.22, 0.14)[severity]
    return random.poisson(image * factor * 120) / 120


def fog(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """White clouds of fractal noise."""
    amount, decay = ((0.6, 2.0), (0.9, 2.0), (1.2, 1.7), (1.6, 1.5), (2.2, 1.4))[severity]
    clouds = fractal(image.shape[:2], decay, random)[..., None]
    # Brightness is divided so that white stays white.
    return (image + amount * (0.4 + 0.6 * clouds)) / (1 + amount)


def frost(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Ice on the lens: sharp ridges of fractal noise, thicker at the border."""
    share, strength = ((0.25, 0.6), (0.35, 0.7), (0.45, 0.75), (0.55, 0.8), (0.65, 0.85))[severity]
    height, width = image.shape[:2]
    ridges = np.mean([1 - np.abs(2 * fractal((height, width), 1.3, random) - 1) for _ in range(3)], 0)
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    thickness = 0.75 * ridges + 0.25 * np.maximum(np.abs(x), np.abs(y))
    edge = np.quantile(thickness, 1 - share)
    ice = (
        strength
        * np.clip((thickness - edge) / max(float(thickness.max() - edge), 1e-6) * 1.5, 0, 1)[..., None]
    )
    return image * (1 - ice) + np.array([0.82, 0.88, 0.94]) * ice


def snow(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Flakes blurred by their fall, over a whitened image."""
    share, white = ((0.004, 0.1), (0.008, 0.15), (0.012, 0.2), (0.018, 0.25), (0.026, 0.3))[severity]
    height, width = image.shape[:2]
    size = max(1.0, _pixels(image, 3))
    flakes = (random.random((height, width)) < share / size) * random.uniform(0.3, 1, (height, width))
    flakes = flakes.astype(np.float32)
    flakes = cv2.dilate(flakes, (_disk(size) > 0).astype(np.uint8))
    length = max(3, round(_pixels(image, (10, 12, 16, 20, 24)[severity])))
    fallen = np.clip(2.5 * cv2.filter2D(flakes, -1, _line(length, random.uniform(60, 120))), 0, 1)[..., None]
    grey = image.mean(2, keepdims=True)
    whitened = (1 - white) * image + white * np.maximum(image, 0.5 + 0.5 * grey)
    return np.maximum(whitened, fallen)


def contrast(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Values move towards their mean."""
    factor = (0.5, 0.38, 0.28, 0.19, 0.12)[severity]
    mean = image.mean((0, 1), keepdims=True)
    return (image - mean) * factor + mean


def elastic(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """A smooth random displacement."""
    reach = _pixels(image, (6, 10, 14, 19, 25)[severity])
    height, width = image.shape[:2]
    shift = random.uniform(-1, 1, (2, height, width)).astype(np.float32)
    smooth = [cv2.GaussianBlur(one, (0, 0), max(1.5, _pixels(image, 24))) for one in shift]
    smooth = [reach * one / max(float(np.abs(one).max()), 1e-6) for one in smooth]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(
        image, columns + smooth[0], rows + smooth[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def colour_quantisation(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Few values for each channel."""
    levels = 2 ** (5, 4, 3, 2, 1)[severity] - 1
    return np.round(image * levels) / levels


def pixelate(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """A smaller image, enlarged by repeated pixels."""
    factor = (0.6, 0.5, 0.4, 0.3, 0.25)[severity]
    height, width = image.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(
        cv2.resize(image, small, interpolation=cv2.INTER_AREA),
        (width, height),
        interpolation=cv2.INTER_NEAREST,
    )


def jpeg(image: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Compressed with a low quality."""
    quality = (25, 18, 13, 9, 6)[severity]
    encoded = io.BytesIO()
    Image.fromarray(np.rint(image.clip(0, 1) * 255).astype(np.uint8)).save(encoded, "JPEG", quality=quality)
    return np.asarray(Image.open(encoded), np.float32) / 255


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        gaussian_noise, shot_noise, impulse_noise, iso_noise,
        defocus_blur, glass_blur, motion_blur, zoom_blur,
        brightness, dark, fog, frost, snow, contrast,
        elastic, colour_quantisation, pixelate, jpeg,
    )
}  # fmt: skip


def fractal(size: tuple[int, int], decay: float, random: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in [0, 1]: noise of doubling resolution, each octave weaker by `decay`."""
    height, width = size
    total, weight, cells = np.zeros(size, np.float32), 1.0, 2
    while cells <= max(size):
        coarse = random.random((max(2, cells * height // max(size) + 1), cells + 1)).astype(np.float32)
        total += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        weight, cells = weight / decay, cells * 2
    return (total - total.min()) / max(float(np.ptp(total)), 1e-6)


def _pixels(image: np.ndarray, at_full_width: float) -> float:
    return at_full_width * image.shape[1] / WIDTH


def _disk(radius: float) -> np.ndarray:
    """A kernel with sum 1 and soft edge."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return disk / disk.sum()


def _line(length: int, degrees: float) -> np.ndarray:
    """A kernel with sum 1: a line through the middle."""
    side = length + 1 - length % 2
    line = np.zeros((side, side), np.float32)
    line[side // 2] = 1
    turned = cv2.warpAffine(line, cv2.getRotationMatrix2D((side // 2, side // 2), degrees, 1), (side, side))
    return turned / turned.sum()
