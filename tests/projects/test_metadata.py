"""What a picture tells about its maker does not get in, and not one pixel changes for it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from projects.ingest import check_picture
from projects.metadata import Unreadable, without_metadata
from tests.projects.odd_files import encode, picture

SECRETS = (b"SECRET", b"Ines")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int = 1) -> Image.Exif:
    """Return a phone's Exif: who, with what, when and where."""
    made = Image.Exif()
    made[0x0112] = orientation
    made[0x013B] = "Ines"
    made[0x010F] = "SECRET camera"
    made.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0)})
    made.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0SECRET comment"
    return made


def text_chunks() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Ines")
    info.add_text("parameters", "SECRET prompt", zip=True)
    info.add_itxt("XML:com.adobe.xmp", "<x>SECRET</x>")
    return info


TELLING = {
    "JPEG": encode(
        picture(), "JPEG", exif=exif(), comment=b"SECRET", xmp=b"<x>SECRET</x>", icc_profile=PROFILE
    ),
    "progressive JPEG with restarts": encode(
        picture(), "JPEG", exif=exif(), progressive=True, restart_marker_rows=1
    ),
    "JPEG with a second picture behind it": encode(picture(), "JPEG", exif=exif())
    + encode(picture(), "JPEG", exif=exif()),
    "PNG": encode(picture(), "PNG", exif=exif(), pnginfo=text_chunks(), icc_profile=PROFILE),
    "PNG with something behind it": encode(picture(), "PNG", exif=exif()) + b"SECRET",
    "WebP": encode(picture(), "WEBP", exif=exif(), xmp=b"<x>SECRET</x>", icc_profile=PROFILE),
    "lossless WebP": encode(picture(), "WEBP", exif=exif(), lossless=True),
    "TIFF": encode(picture(), "TIFF", exif=exif()),
    "HEIF": encode(picture(), "HEIF", exif=exif().tobytes(), quality=95),
    "AVIF": encode(picture(), "AVIF", exif=exif().tobytes(), quality=95),
    "turned JPEG": encode(picture(), "JPEG", exif=exif(orientation=6)),
}


def pixels(content: bytes) -> bytes:
    return Image.open(io.BytesIO(content)).convert("RGB").tobytes()


@pytest.mark.parametrize("name", TELLING)
def test_nothing_about_the_maker_is_stored(name: str) -> None:
    content = TELLING[name]
    assert any(secret in content for secret in SECRETS)
    checked = check_picture(content)
    for stored in (checked.content, checked.thumbnail):
        assert [secret for secret in SECRETS if secret in stored] == []
        opened = Image.open(io.BytesIO(stored))
        opened.load()
        assert dict(opened.getexif()) == {}
        assert {"exif", "xmp", "comment", "Author", "parameters"} & set(opened.info) == set()
    if "turned" not in name:
        assert pixels(checked.content) == pixels(content)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP"])
def test_file_keeps_its_coding_and_its_colour_profile(name: str) -> None:
    content = TELLING[name]
    checked = check_picture(content)
    opened = Image.open(io.BytesIO(checked.content))
    assert opened.format == name.upper()
    assert opened.info["icc_profile"] == PROFILE
    assert len(checked.content) < len(content)


def test_same_picture_with_other_metadata_is_the_same_content() -> None:
    plain = encode(picture(), "JPEG", quality=90)
    telling = encode(picture(), "JPEG", quality=90, exif=exif())
    assert check_picture(plain).sha256 == check_picture(telling).sha256


@given(at=st.integers(0, 2000), put=st.binary(max_size=12), kind=st.sampled_from(["JPEG", "PNG", "WebP"]))
def test_broken_file_is_taken_apart_or_refused(at: int, put: bytes, kind: str) -> None:
    content = TELLING[kind]
    broken = content[:at] + put + content[at + len(put) :]
    try:
        shorter = without_metadata(broken, f"image/{kind.lower()}")
    except Unreadable:
        return
    assert len(shorter) <= len(broken) + 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_file_that_ends_early_is_refused(kind: str) -> None:
    content = encode(picture(), kind)
    for length in (0, 1, 7, 30, len(content) // 2, len(content) - 2):
        with pytest.raises(Unreadable):
            without_metadata(content[:length], f"image/{kind.lower()}")
