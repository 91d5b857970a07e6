"""More than two hundred odd, broken and hostile files, made in code, each with what must become of it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageCms

SIZE = (320, 280)


@dataclass(frozen=True)
class OddFile:
    """Name a file, its bytes, and either the reason it is refused or the picture it must become."""

    label: str
    content: bytes
    refused: str = ""
    size: tuple[int, int] = SIZE
    kept: bool = False  # every byte of it
    remark: str = ""
    # What the pixel a quarter in from the top left must be, within a tolerance.
    pixel: tuple[int, int, int] | None = None


def picture(size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """Return a picture whose quarters are red, green, blue and grey."""
    made = Image.new("RGB", size, (128, 128, 128))
    half = (size[0] // 2, size[1] // 2)
    made.paste((200, 30, 30), (0, 0, *half))
    made.paste((30, 200, 30), (half[0], 0, size[0], half[1]))
    made.paste((30, 30, 200), (0, half[1], half[0], size[1]))
    return made.convert(mode)


RED = (200, 30, 30)


def encode(made: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    made.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG that claims a size and has hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    header = struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def _good() -> dict[str, bytes]:
    rgb = picture()
    return {
        "JPEG": encode(rgb, "JPEG", quality=95),
        "PNG": encode(rgb, "PNG"),
        "WEBP": encode(rgb, "WEBP", lossless=True),
        "GIF": encode(rgb, "GIF"),
        "BMP": encode(rgb, "BMP"),
        "TIFF": encode(rgb, "TIFF"),
        "HEIF": encode(rgb, "HEIF", quality=95),
        "AVIF": encode(rgb, "AVIF", quality=95),
    }


def odd_files() -> Iterator[OddFile]:
    """Give every odd file."""
    good = _good()
    yield from _plain(good)
    yield from _cut_short(good)
    yield from _modes()
    yield from _turned()
    yield from _animated()
    yield from _bombs_and_sizes()
    yield from _not_pictures(good)
    yield from _flipped_bits(good)


def _plain(good: dict[str, bytes]) -> Iterator[OddFile]:
    for kind, content in good.items():
        kept = kind in ("JPEG", "PNG", "WEBP")
        yield OddFile(f"good {kind}", content, kept=kept, pixel=RED)
        # Judged by content: bytes after the end belong to nobody, change nothing, and are left behind.
        if kind in ("JPEG", "PNG", "GIF", "BMP"):
            script = b"<script>alert(1)</script>"
            yield OddFile(f"{kind} with a script behind it", content + script, pixel=RED)
    yield OddFile(
        "progressive JPEG", encode(picture(), "JPEG", progressive=True, quality=95), kept=True, pixel=RED
    )
    yield OddFile("interlaced palette GIF", encode(picture(), "GIF", interlace=1), pixel=RED)
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        content = encode(picture(), "TIFF", compression=compression)
        yield OddFile(f"TIFF {compression}", content, pixel=RED)
    yield OddFile("optimised PNG", encode(picture(), "PNG", optimize=True), kept=True, pixel=RED)
    yield OddFile("lossy WebP", encode(picture(), "WEBP", quality=95), kept=True, pixel=RED)


def _cut_short(good: dict[str, bytes]) -> Iterator[OddFile]:
    for kind, content in good.items():
        for percent in (1, 5, 25, 50, 75, 90):
            cut = content[: max(12, len(content) * percent // 100)]
            yield OddFile(f"{kind} cut at {percent} %", cut, refused="damaged")
    for kind, content in good.items():
        for length in (4, 8, 11):
            refused = "not_a_picture|damaged|video"
            yield OddFile(f"first {length} bytes of {kind}", content[:length], refused=refused)


def _modes() -> Iterator[OddFile]:
    yield OddFile("CMYK JPEG", encode(picture(mode="CMYK"), "JPEG", quality=95), pixel=RED)
    yield OddFile("CMYK TIFF", encode(picture(mode="CMYK"), "TIFF"), pixel=RED)
    yield OddFile("grey JPEG", encode(picture(mode="L"), "JPEG"), kept=True)
    yield OddFile("grey PNG", encode(picture(mode="L"), "PNG"), kept=True)
    yield OddFile("black and white PNG", encode(picture(mode="1"), "PNG"))
    yield OddFile("palette PNG", encode(picture().quantize(16), "PNG"), pixel=RED)
    yield OddFile("16-bit grey PNG", encode(Image.new("I;16", SIZE, 32_896), "PNG"), pixel=(128, 128, 128))
    yield OddFile("16-bit grey TIFF", encode(Image.new("I;16", SIZE, 65_535), "TIFF"), pixel=(255, 255, 255))
    yield OddFile("32-bit grey TIFF", encode(Image.new("I", SIZE, 65_535), "TIFF"), pixel=(255, 255, 255))
    yield OddFile("floating-point TIFF", encode(Image.new("F", SIZE, 0.5), "TIFF"), pixel=(127, 127, 127))
    yield OddFile("16-bit colour PNG", _png_16_bit(), pixel=(200, 30, 30))
    yield OddFile("Lab TIFF", encode(lab_picture(), "TIFF"), pixel=RED)
    for kind in ("PNG", "WEBP", "TIFF", "AVIF", "HEIF"):
        clear = picture(mode="RGBA")
        clear.putalpha(0)
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        white = (255, 255, 255)
        yield OddFile(f"transparent {kind}", encode(clear, kind, **options), pixel=white)
        opaque = encode(picture(mode="RGBA"), kind, **({"lossless": True} if kind == "WEBP" else {}))
        # The WebP encoder leaves an alpha channel out that says nothing.
        yield OddFile(f"{kind} with full alpha", opaque, kept=kind == "WEBP", pixel=RED)
    half = picture(mode="RGBA")
    half.putalpha(128)
    yield OddFile("half transparent PNG", encode(half, "PNG"), pixel=(227, 142, 142))
    yield OddFile("grey with alpha PNG", encode(Image.new("LA", SIZE, (0, 0)), "PNG"), pixel=(255, 255, 255))
    see_through = picture().quantize(16)
    nothing = see_through.getpixel((SIZE[0] // 4, SIZE[1] // 4))
    yield OddFile(
        "palette PNG with transparency",
        encode(see_through, "PNG", transparency=nothing),
        pixel=(255, 255, 255),
    )
    yield OddFile(
        "GIF with transparency", encode(see_through, "GIF", transparency=nothing), pixel=(255, 255, 255)
    )
    yield OddFile(
        "RGB PNG with one clear colour", encode(picture(), "PNG", transparency=RED), pixel=(255, 255, 255)
    )
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield OddFile(
        "JPEG that says it is sRGB",
        encode(picture(), "JPEG", quality=95, icc_profile=srgb),
        kept=True,
        pixel=RED,
    )
    yield OddFile(
        "JPEG with a broken profile",
        encode(picture(), "JPEG", quality=95, icc_profile=b"rubbish"),
        kept=True,
        pixel=RED,
    )
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    yield OddFile("PNG with a profile that does not fit", encode(picture(), "PNG", icc_profile=lab))


def lab_picture() -> Image.Image:
    """Return the picture in Lab colour."""
    rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(picture(), rgb, lab, outputMode="LAB")  # type: ignore[return-value]


def _png_16_bit() -> bytes:
    """Return a 16-bit RGB PNG, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">HHH", 200 * 257, 30 * 257, 30 * 257) * SIZE[0]
    header = struct.pack(">LLBBBBB", *SIZE, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row * SIZE[1]))
        + chunk(b"IEND", b"")
    )


def _turned() -> Iterator[OddFile]:
    """Give JPEGs whose EXIF says how the camera was held: all eight ways must come out upright."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for orientation, stored_as in undo.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            stored = picture() if stored_as is None else picture().transpose(stored_as)
            options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
            content = encode(stored, kind, exif=exif, **options)
            yield OddFile(f"{kind} held the {orientation}. way", content, pixel=RED)
    exif = Image.Exif()
    exif[0x0112] = 99
    yield OddFile(
        "JPEG with a nonsense orientation", encode(picture(), "JPEG", quality=95, exif=exif), pixel=RED
    )
    yield OddFile(
        "JPEG with broken EXIF",
        encode(picture(), "JPEG", quality=95, exif=b"Exif\0\0rubbish"),
        pixel=RED,
    )


def _animated() -> Iterator[OddFile]:
    frames = [picture(), Image.new("RGB", SIZE, (0, 0, 0)), Image.new("RGB", SIZE, (9, 9, 9))]
    for kind in ("GIF", "WEBP", "PNG", "AVIF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=80, **options)
        yield OddFile(f"animated {kind}", content, remark="animated_first_frame", pixel=RED)
    pages = encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    yield OddFile("TIFF of three pages", pages, remark="animated_first_frame", pixel=RED)


def _bombs_and_sizes() -> Iterator[OddFile]:
    yield OddFile("PNG that claims 100 megapixels", png_header(10_000, 10_000), refused="too_many_pixels")
    yield OddFile("PNG that claims 2 gigapixels", png_header(46_000, 46_000), refused="too_many_pixels")
    yield OddFile(
        "PNG that claims 2^31 a side", png_header(2**31 - 1, 2**31 - 1), refused="too_many_pixels|damaged"
    )
    yield OddFile(
        "real 61-megapixel PNG of one colour",
        encode(Image.new("1", (8000, 7700)), "PNG"),
        refused="too_many_pixels",
    )
    bmp = bytearray(encode(picture((70, 70)), "BMP"))
    bmp[18:26] = struct.pack("<ll", 20_000, 20_000)
    yield OddFile("BMP that claims 400 megapixels", bytes(bmp), refused="too_many_pixels")
    gif = bytearray(encode(picture((70, 70)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield OddFile("GIF that claims 4 gigapixels", bytes(gif), refused="too_many_pixels")
    yield OddFile("PNG of no width", png_header(0, 100), refused="damaged|too_small")
    for size in ((1, 1), (63, 63), (63, 4000), (4000, 63)):
        content = encode(Image.new("RGB", size), "PNG")
        yield OddFile(f"PNG of {size[0]} x {size[1]}", content, refused="too_small")
    for size in ((64, 64), (255, 300), (64, 4000)):
        content = encode(picture(size), "PNG")
        yield OddFile(f"PNG of {size[0]} x {size[1]}", content, size=size, kept=True, remark="small")
    yield OddFile("PNG of 256 x 256", encode(picture((256, 256)), "PNG"), size=(256, 256), kept=True)
    yield OddFile(
        "strip of 64 x 20000",
        encode(picture((64, 20_000)), "PNG"),
        size=(64, 20_000),
        kept=True,
        remark="small",
    )
    yield OddFile("PNG with a text bomb", _png_with_text_bomb(), refused="damaged")


def _png_with_text_bomb() -> bytes:
    content = encode(picture(), "PNG")
    data = b"Comment\0\0" + zlib.compress(b"\0" * 80_000_000, 9)
    chunk = struct.pack(">L", len(data)) + b"zTXt" + data + struct.pack(">L", zlib.crc32(b"zTXt" + data))
    return content[:33] + chunk + content[33:]


def _not_pictures(good: dict[str, bytes]) -> Iterator[OddFile]:
    yield OddFile("nothing", b"", refused="empty")
    others = {
        "shell script": b"#!/bin/sh\nrm -rf /\n",
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "SVG with a header": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        "Python": b"import os\nos.system('id')\n",
        "ELF": b"\x7fELF\x02\x01\x01" + b"\0" * 200,
        "Windows program": b"MZ\x90\0" + b"\0" * 200,
        "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "JSON": b'{"a": 1}',
        "pickle": b"\x80\x04\x95\x0c\0\0\0\0\0\0\0\x8c\x08builtins\x94.",
        "zeros": b"\0" * 5000,
        "ones": b"\xff" * 5000,
        "safetensors": struct.pack("<Q", 2) + b"{}",
        "WAV": b"RIFF\x24\0\0\0WAVEfmt ",
        "SQLite": b"SQLite format 3\0" + b"\0" * 80,
        "ICO-like text": b"BX not a bitmap",
        "PCX": b"\x0a\x05\x01\x08" + b"\0" * 200,
        "PPM": b"P6 100 100 255\n" + b"\0" * 30_000,
        "XBM": b"#define x_width 100\n#define x_height 100\n",
        "FLI": b"\0\0\0\0\x11\xaf" + b"\0" * 200,
        "DDS": b"DDS |\0\0\0" + b"\0" * 200,
        "WMF": b"\xd7\xcd\xc6\x9a\0\0" + b"\0" * 200,
        "TGA": b"\0\0\x02\0\0\0\0\0\0\0\0\0\x40\0\x40\0\x18\0" + b"\0" * 12_288,
    }
    for label, content in others.items():
        yield OddFile(label, content, refused="not_a_picture")
    for label, content in {
        "MP4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        "QuickTime": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
        "Matroska": b"\x1aE\xdf\xa3" + b"\0" * 60,
        "AVI": b"RIFF\x24\0\0\0AVI LIST",
    }.items():
        yield OddFile(label, content, refused="video")
    for label, content in {
        "RAR": b"Rar!\x1a\x07\x01\0",
        "7z": b"7z\xbc\xaf\x27\x1c\0\x04",
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0",
        "xz": b"\xfd7zXZ\0\0\x04",
        "bzip2": b"BZh91AY&SY",
        "zstd": b"\x28\xb5\x2f\xfd\0\0",
    }.items():
        yield OddFile(label, content, refused="unsupported_archive")
    for label, content in {
        "Photoshop": b"8BPS\0\x01" + b"\0" * 60,
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
        "JPEG XL": b"\xff\x0a" + b"\0" * 60,
        "icon": b"\0\0\x01\0\x01\0" + b"\0" * 60,
        "QOI": b"qoif" + b"\0" * 60,
        "OpenEXR": b"\x76\x2f\x31\x01" + b"\0" * 60,
    }.items():
        yield OddFile(label, content, refused="unsupported_picture")
    yield OddFile("zip where a picture is wanted", b"PK\x03\x04" + b"\0" * 60, refused="nested_archive")
    # The head of one kind on the body of another.
    kinds = list(good)
    for kind, other in zip(kinds, kinds[1:] + kinds[:1], strict=True):
        content = good[kind][:12] + good[other][12:]
        yield OddFile(
            f"head of {kind} on {other}",
            content,
            refused="damaged|not_a_picture|too_small|too_many_pixels|video",
        )


def _flipped_bits(good: dict[str, bytes]) -> Iterator[OddFile]:
    """Give pictures with bytes overwritten in the middle: any answer will do, but it must be one of ours."""
    for kind, content in good.items():
        for part in (1, 2, 3, 5):
            broken = bytearray(content)
            at = len(content) * part // 6
            broken[at : at + 24] = b"\xa5" * 24
            yield OddFile(f"{kind} overwritten at {part}/6", bytes(broken), refused="*")
