"""Take what a picture says about its maker out of its file, without touching a pixel. Pure; knows no database.

Phones write place, time and serial numbers into pictures, editors write names and whole previews. None of it is
needed to train, and versions and downloads would pass it on. The pixels' coding is copied as it stands; only what
describes colour stays beside it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# PNG (ISO/IEC 15948): the picture itself and how its numbers are to be read.
_PNG_KEPT = set(b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP sBIT pHYs".split())
# WebP (RFC 9649): both codings, transparency, colour profile.
_WEBP_KEPT = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP"}
_WEBP_EXIF_AND_XMP = 0b0000_1100
# JPEG (ITU-T T.81): markers without a length, start of scan, end of image.
_JPEG_BARE = {0x01, *range(0xD0, 0xD8)}
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_JPEG_COMMENT = 0xFE
# Of the applications' own segments: the resolution, the colour profile, how the colours are coded.
_JPEG_APPLICATION_KEPT = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}


class Unreadable(Exception):
    """Say that a file is not built as its format asks."""


def without_metadata(content: bytes, content_type: str) -> bytes:
    """Return a JPEG, PNG or WebP file without Exif, XMP, IPTC, comments and what follows its end.

    Raise Unreadable if the file does not follow its format closely enough to be taken apart.
    """
    try:
        return b"".join(_PARTS[content_type](content))
    except (IndexError, struct.error) as error:
        raise Unreadable(content_type) from error


def _jpeg_parts(content: bytes) -> Iterator[bytes]:
    yield content[:2]
    at = 2
    while True:
        if content[at] != 0xFF:
            raise Unreadable("JPEG: no marker where one must be")
        marker = content[at + 1]
        if marker == 0xFF:  # a marker may be preceded by any number of these
            at += 1
            continue
        if marker == _JPEG_END:
            yield b"\xff\xd9"
            return  # phones append further pictures here, each with its own Exif
        if marker in _JPEG_BARE:
            yield content[at : at + 2]
            at += 2
            continue
        end = at + 2 + struct.unpack_from(">H", content, at + 2)[0]
        segment = content[at:end]
        if _is_needed_in_jpeg(marker, segment):
            yield segment
        at = end
        if marker == _JPEG_SCAN:
            at = _end_of_scan(content, end)
            yield content[end:at]


def _is_needed_in_jpeg(marker: int, segment: bytes) -> bool:
    if 0xE0 <= marker <= 0xEF:
        name = _JPEG_APPLICATION_KEPT.get(marker)
        return name is not None and segment.startswith(name, 4)
    return marker != _JPEG_COMMENT


def _end_of_scan(content: bytes, start: int) -> int:
    """Return where the coded data ends: at the first marker that is neither an escaped 0xFF nor a restart."""
    at = start
    while True:
        at = content.find(b"\xff", at)
        if at < 0:
            raise Unreadable("JPEG: ends within a scan")
        following = content[at + 1]
        if following != 0 and following not in _JPEG_BARE and following != 0xFF:
            return at
        at += 1 if following == 0xFF else 2


def _png_parts(content: bytes) -> Iterator[bytes]:
    yield _PNG_SIGNATURE
    at = len(_PNG_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if end > len(content):
            raise Unreadable("PNG: ends within a chunk")
        if kind in _PNG_KEPT:
            yield content[at:end]
        at = end


def _webp_parts(content: bytes) -> Iterator[bytes]:
    parts = []
    at = 12
    file_end = min(len(content), 8 + struct.unpack_from("<I", content, 4)[0])
    while at + 8 <= file_end:
        kind, length = struct.unpack_from("<4sI", content, at)
        end = at + 8 + length + length % 2
        if at + 8 + length > len(content):
            raise Unreadable("WebP: ends within a chunk")
        if kind in _WEBP_KEPT:
            part = bytearray(content[at:end])
            if kind == b"VP8X":
                part[8] &= ~_WEBP_EXIF_AND_XMP
            parts.append(bytes(part))
        at = end
    body = b"".join(parts)
    yield b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


_PARTS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "image/jpeg": _jpeg_parts,
    "image/png": _png_parts,
    "image/webp": _webp_parts,
}
