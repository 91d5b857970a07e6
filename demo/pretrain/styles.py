"""Draw the procedural styles: each turns an RGBA icon of 128 px into an RGB picture of the same size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

Drawing = Callable[[Image.Image], Image.Image]


def on_colour(icon: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Lay the RGBA icon on one colour."""
    ground = Image.new("RGBA", icon.size, (*colour, 255))
    return Image.alpha_composite(ground, icon).convert("RGB")


def plain(icon: Image.Image) -> Image.Image:
    """Lay the icon on white."""
    return on_colour(icon, (255, 255, 255))


def night(icon: Image.Image) -> Image.Image:
    """Lay the icon on a very dark blue ground."""
    return on_colour(icon, (18, 20, 44))


def lines(icon: Image.Image, thickness: int) -> Image.Image:
    """Trace colour edges and the outline: an L picture, 255 on a line. `thickness` is in pixels of the icon."""
    parts = [plain(icon).filter(ImageFilter.MedianFilter(5)).getchannel(c) for c in range(3)]
    parts.append(icon.getchannel("A"))
    strongest = np.zeros((icon.height, icon.width), np.float32)
    for part in parts:
        field = np.asarray(part.filter(ImageFilter.GaussianBlur(1.2)), np.float32)
        dy, dx = np.gradient(field)
        strongest = np.maximum(strongest, np.hypot(dx, dy))
    mask = Image.fromarray(((strongest > 14) * 255).astype(np.uint8))
    if thickness > 1:
        mask = mask.filter(ImageFilter.MaxFilter(thickness | 1))
    return mask.filter(ImageFilter.GaussianBlur(0.8))


def sketch(icon: Image.Image) -> Image.Image:
    """Draw dark grey pencil lines over a pale tint of the icon."""
    tint = Image.blend(plain(icon), Image.new("RGB", icon.size, (255, 255, 255)), 0.75)
    return Image.composite(Image.new("RGB", icon.size, (60, 60, 66)), tint, lines(icon, 1))


def pixel(icon: Image.Image) -> Image.Image:
    """Reduce the icon to 21 coarse pixels a side, in full colour."""
    small = plain(icon).resize((22, 22), Image.Resampling.BOX)
    return small.resize(icon.size, Image.Resampling.NEAREST)


def violet(icon: Image.Image) -> Image.Image:
    """Fill the icon with three flat tones of violet on a cream ground."""
    grey = ImageOps.grayscale(plain(icon)).filter(ImageFilter.MedianFilter(5))
    tone = np.asarray(grey, np.float32)[..., None] / 255
    steps = np.floor(tone * 2.999) / 2
    dark, light = np.array([74, 38, 120], np.float32), np.array([225, 190, 240], np.float32)
    inside = dark * (1 - steps) + light * steps
    alpha = np.asarray(icon.getchannel("A"), np.float32)[..., None] / 255
    ground = np.array([250, 246, 230], np.float32)
    return Image.fromarray((inside * alpha + ground * (1 - alpha)).astype(np.uint8))


def neon(icon: Image.Image) -> Image.Image:
    """Draw glowing cyan-to-magenta tubes on a night ground."""
    mask = np.asarray(lines(icon, 1), np.float32) / 255
    glow = np.asarray(lines(icon, 3).filter(ImageFilter.GaussianBlur(4)), np.float32) / 255
    ramp = np.linspace(0, 1, icon.height, dtype=np.float32)[:, None, None]
    tube = np.array([40, 240, 255], np.float32) * (1 - ramp) + np.array([255, 60, 230], np.float32) * ramp
    ground = np.array([12, 8, 34], np.float32)
    light = ground + tube * np.clip(mask * 0.9 + glow * 0.55, 0, 1)[..., None]
    return Image.fromarray(np.clip(light + 70 * mask[..., None], 0, 255).astype(np.uint8))


def blueprint(icon: Image.Image) -> Image.Image:
    """Draw white lines on blue paper, inside faintly lighter."""
    alpha = np.asarray(icon.getchannel("A"), np.float32)[..., None] / 255
    tone = np.asarray(ImageOps.grayscale(plain(icon)), np.float32)[..., None] / 255
    paper = np.array([22, 66, 150], np.float32) + alpha * (22 + 40 * tone)
    mask = np.asarray(lines(icon, 1), np.float32)[..., None] / 255
    return Image.fromarray(
        (paper * (1 - mask) + np.array([235, 244, 255], np.float32) * mask).astype(np.uint8)
    )


def gameboy(icon: Image.Image) -> Image.Image:
    """Reduce the icon to coarse pixels in the four greens of an old handheld screen."""
    palette = np.array([[15, 56, 15], [48, 98, 48], [139, 172, 15], [202, 220, 159]], np.uint8)
    grey = ImageOps.autocontrast(ImageOps.grayscale(plain(icon)), cutoff=1)
    tone = np.asarray(grey.resize((32, 32), Image.Resampling.BOX), np.float32) / 255
    alpha = np.asarray(icon.getchannel("A").resize((32, 32), Image.Resampling.BOX), np.float32) / 255
    level = np.where(alpha > 0.5, np.clip(np.floor(tone * 3), 0, 2), 3).astype(int)
    return Image.fromarray(palette[level]).resize(icon.size, Image.Resampling.NEAREST)


def ink(icon: Image.Image) -> Image.Image:
    """Draw bold black lines on white and fill what is dark: nothing but black and white."""
    grey = ImageOps.grayscale(plain(icon).filter(ImageFilter.MedianFilter(5)))
    dark = grey.point(lambda v: 255 if v < 96 else 0).filter(ImageFilter.GaussianBlur(0.8))
    strokes = ImageChops.lighter(lines(icon, 3), dark)
    return Image.composite(
        Image.new("RGB", icon.size, (0, 0, 0)), Image.new("RGB", icon.size, (255, 255, 255)), strokes
    )


def pastel(icon: Image.Image) -> Image.Image:
    """Stick the icon, washed to pastel and rimmed white with a soft shadow, on a pink ground."""
    soft = Image.blend(
        plain(icon).filter(ImageFilter.MedianFilter(3)), Image.new("RGB", icon.size, (255, 235, 245)), 0.45
    )
    alpha = icon.getchannel("A")
    rim = alpha.filter(ImageFilter.MaxFilter(9)).filter(ImageFilter.GaussianBlur(0.7))
    shadow = ImageChops.offset(rim, 2, 4).filter(ImageFilter.GaussianBlur(2.5)).point(lambda v: int(v * 0.45))
    ground = Image.new("RGB", icon.size, (250, 190, 214))
    ground = Image.composite(Image.new("RGB", icon.size, (120, 50, 90)), ground, shadow)
    ground = Image.composite(Image.new("RGB", icon.size, (255, 255, 255)), ground, rim)
    return Image.composite(soft, ground, alpha)


PRETRAINED: dict[str, Drawing] = {"night": night, "sketch": sketch, "pixel": pixel, "violet": violet}
HELD_BACK: dict[str, Drawing] = {
    "ink": ink,
    "neon": neon,
    "blueprint": blueprint,
    "gameboy": gameboy,
    "pastel": pastel,
}
