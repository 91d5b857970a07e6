"""Turn the bytes of a file into a checked picture, or into the reason why not. Knows no database and no web.

A file is judged by its content, never by its name. What comes out is 8-bit sRGB, upright and still: either the
original coding, if it was so already, or a lossless PNG; in both cases without place, time, names and comments.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pillow_heif
from PIL import Image, ImageCms, ImageOps

from projects.metadata import Unreadable, without_metadata
from projects.reasons import Refusal

MAX_PICTURE_BYTES = 200 * 1024**2
MAX_PIXELS = 60_000_000
MIN_SIDE = 64
SMALL_SIDE = 256
# The grid shows at most 260 px squares, twice that on fine screens for wide pictures.
THUMBNAIL_SHORT_SIDE = 256
THUMBNAIL_LONG_SIDE = 512

# Pillow refuses above twice this before it allocates anything; `_open` refuses above MAX_PIXELS by the header.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
pillow_heif.register_heif_opener()


class Kind(StrEnum):
    """Name what a file is by its first bytes."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"
    GIF = "GIF"
    BMP = "BMP"
    TIFF = "TIFF"
    HEIF = "HEIF"
    AVIF = "AVIF"
    ZIP = "zip"
    OTHER_ARCHIVE = "archive"
    VIDEO = "video"
    OTHER_PICTURE = "other picture"
    EMPTY = "empty"
    UNKNOWN = "unknown"


# Kept in their own coding when no pixel has to change; the rest becomes PNG, which every reader knows.
_KEPT = {Kind.JPEG: "image/jpeg", Kind.PNG: "image/png", Kind.WEBP: "image/webp"}
_DECODED = {*_KEPT, Kind.GIF, Kind.BMP, Kind.TIFF, Kind.HEIF, Kind.AVIF}

# Major brands of ISO base media files.
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_SIGNATURES: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", Kind.JPEG),
    (b"\x89PNG\r\n\x1a\n", Kind.PNG),
    (b"GIF87a", Kind.GIF),
    (b"GIF89a", Kind.GIF),
    (b"BM", Kind.BMP),
    (b"II*\0", Kind.TIFF),
    (b"MM\0*", Kind.TIFF),
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),
    (b"Rar!\x1a\x07", Kind.OTHER_ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", Kind.OTHER_ARCHIVE),
    (b"\x1f\x8b", Kind.OTHER_ARCHIVE),
    (b"\xfd7zXZ\0", Kind.OTHER_ARCHIVE),
    (b"BZh", Kind.OTHER_ARCHIVE),
    (b"\x28\xb5\x2f\xfd", Kind.OTHER_ARCHIVE),
    (b"\x1aE\xdf\xa3", Kind.VIDEO),
    (b"8BPS", Kind.OTHER_PICTURE),
    (b"\0\0\0\x0cjP  ", Kind.OTHER_PICTURE),
    (b"\xff\x0a", Kind.OTHER_PICTURE),
    (b"\0\0\0\x0cJXL ", Kind.OTHER_PICTURE),
    (b"II+\0", Kind.OTHER_PICTURE),
    (b"\0\0\x01\0", Kind.OTHER_PICTURE),
    (b"qoif", Kind.OTHER_PICTURE),
    (b"\x76\x2f\x31\x01", Kind.OTHER_PICTURE),
)


@dataclass(frozen=True, slots=True)
class Remark:
    """Say something about an accepted picture: a code of `reasons.MESSAGES` and its numbers."""

    code: str
    values: dict[str, object]


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """Hold a picture that can be trained with: its bytes, their sha256 (hex), size in pixels, WebP thumbnail."""

    content: bytes
    content_type: str
    sha256: str
    width: int
    height: int
    thumbnail: bytes
    remarks: tuple[Remark, ...]


def sniff(head: bytes) -> Kind:
    """Tell what a file is from its first 64 bytes or more."""
    if not head:
        return Kind.EMPTY
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF":
        return {b"WEBP": Kind.WEBP, b"AVI ": Kind.VIDEO}.get(head[8:12], Kind.UNKNOWN)
    if head[4:8] == b"ftyp":
        return _sniff_iso_media(head)
    return Kind.UNKNOWN


def _sniff_iso_media(head: bytes) -> Kind:
    length = min(int.from_bytes(head[:4], "big"), len(head), 64)
    # The major brand decides; `mif1` alone may hold either codec, which the compatible brands tell.
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, length - 3, 4))]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return Kind.AVIF
    if any(brand in _HEIF_BRANDS for brand in brands):
        return Kind.HEIF
    return Kind.VIDEO


def check_picture(content: bytes) -> CheckedPicture:
    """Return the picture in `content`, ready to be trained with; raise Refusal with the reason if it cannot be."""
    kind = sniff(content[:64])
    if kind not in _DECODED:
        raise Refusal(_REFUSED_KINDS.get(kind, "not_a_picture"))
    if len(content) > MAX_PICTURE_BYTES:
        raise Refusal("too_large", limit="200 MB")
    try:
        with _open(content, kind) as opened:
            return _checked(opened, content, kind)
    except Refusal:
        raise
    except Image.DecompressionBombError:
        raise Refusal("too_many_pixels", megapixels="> 120", limit=MAX_PIXELS // 1_000_000) from None
    except MemoryError:
        raise
    except Exception as error:
        # Decoders of foreign bytes raise whatever comes to hand (OSError, SyntaxError, struct.error, zlib.error,
        # IndexError, ...): all of it means the same to the person who uploaded.
        raise Refusal("damaged") from error


_REFUSED_KINDS = {
    Kind.EMPTY: "empty",
    Kind.VIDEO: "video",
    Kind.OTHER_ARCHIVE: "unsupported_archive",
    Kind.ZIP: "nested_archive",
    Kind.OTHER_PICTURE: "unsupported_picture",
}


def _open(content: bytes, kind: Kind) -> Image.Image:
    """Read the header with the one decoder that fits and refuse by its numbers, before any pixel is decoded."""
    opened = Image.open(io.BytesIO(content), formats=[kind.value])
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise Refusal(
            "too_many_pixels",
            megapixels=f"{width * height / 1_000_000:.0f}",
            limit=MAX_PIXELS // 1_000_000,
        )
    if min(width, height) < MIN_SIDE:
        raise Refusal("too_small", width=width, height=height, limit=MIN_SIDE)
    return opened


def _checked(opened: Image.Image, content: bytes, kind: Kind) -> CheckedPicture:
    # A phone's JPEG may carry further pictures (MPO); that is not an animation.
    is_animated = kind is not Kind.JPEG and getattr(opened, "is_animated", False)
    if is_animated:
        opened.seek(0)
    opened.load()
    is_plain = not is_animated and _is_plain(opened, content, kind)
    picture = opened if is_plain else _normalise(opened)
    remarks = [Remark("animated_first_frame", {})] if is_animated else []
    if min(picture.size) < SMALL_SIDE:
        remarks.append(Remark("small", {"width": picture.width, "height": picture.height}))
    stored, content_type = _stored(picture, content, kind) if is_plain else (_png(picture), "image/png")
    return CheckedPicture(
        content=stored,
        content_type=content_type,
        sha256=hashlib.sha256(stored).hexdigest(),
        width=picture.width,
        height=picture.height,
        thumbnail=_thumbnail(picture),
        remarks=tuple(remarks),
    )


def _stored(picture: Image.Image, content: bytes, kind: Kind) -> tuple[bytes, str]:
    """Return the file of a plain picture without its metadata, and its type."""
    try:
        return without_metadata(content, _KEPT[kind]), _KEPT[kind]
    except Unreadable:
        # Built so oddly that only the decoder understands it: coded anew it has no metadata either.
        return _png(picture), "image/png"


def _is_plain(picture: Image.Image, content: bytes, kind: Kind) -> bool:
    """Tell whether the original bytes are 8-bit grey or RGB in sRGB, upright and without transparency."""
    if kind not in _KEPT or picture.mode not in ("RGB", "L") or "transparency" in picture.info:
        return False
    # Pillow opens 16-bit colour PNG as 8-bit: the depth stands at byte 24, in IHDR.
    if kind is Kind.PNG and content[24] != 8:
        return False
    upright = picture.getexif().get(0x0112, 1) in (0, 1)
    return upright and _foreign_profile(picture) is None


def _normalise(picture: Image.Image) -> Image.Image:
    """Return `picture` upright, in 8-bit sRGB, transparency laid on white."""
    profile = _foreign_profile(picture)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = _to_8_bit(picture)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        background = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(background, rgba)
    if profile is not None:
        converted = _to_srgb(picture, profile)
        if converted is not None:
            return converted
    return picture.convert("RGB")


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and floating-point grey to 0..255 (linearly, from the full range of the depth)."""
    numbers = picture.convert("F")
    highest = float(numbers.getextrema()[1])  # type: ignore[arg-type]
    if picture.mode == "F":
        full = 1.0 if highest <= 1.0 else 255.0 if highest <= 255.0 else 65_535.0
    else:
        full = 65_535.0 if highest <= 65_535.0 else highest
    return numbers.point(lambda value: value * (255.0 / full) + 0.0).convert("L")


def _foreign_profile(picture: Image.Image) -> Any | None:
    """Return the picture's colour profile unless it is sRGB, none or unreadable."""
    raw = picture.info.get("icc_profile")
    if not raw:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
        name = ImageCms.getProfileDescription(profile)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return None if "srgb" in name.lower() else profile


def _to_srgb(picture: Image.Image, profile: Any) -> Image.Image | None:
    """Convert with a colour profile; None where the profile does not fit the picture."""
    source = picture if picture.mode in ("CMYK", "L", "LAB") else picture.convert("RGB")
    try:
        return ImageCms.profileToProfile(source, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, ValueError):
        return None


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    bare = picture.copy()
    bare.info.clear()
    # Level 3: twice as fast as 6 for 3 % more bytes.
    bare.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _thumbnail(picture: Image.Image) -> bytes:
    """Return a WebP whose shorter side is at most 256 px and whose longer side is at most 512 px."""
    scale = min(
        1.0,
        THUMBNAIL_SHORT_SIDE / min(picture.size),
        max(THUMBNAIL_LONG_SIDE / max(picture.size), 1 / min(picture.size)),
    )
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    small.thumbnail((16_000, 16_000))  # WebP's own limit is 16 383; only strips come near
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=82, method=4)
    return buffer.getvalue()
