"""Every file becomes the right picture or the right reason."""

from __future__ import annotations

import hashlib
import io

import pytest
from PIL import Image

from projects.ingest import CheckedPicture, check_picture
from projects.reasons import MESSAGES, Refusal
from tests.projects.odd_files import OddFile, odd_files, picture

FILES = list(odd_files())
REFUSED = [file for file in FILES if file.refused not in ("", "*")]
ACCEPTED = [file for file in FILES if not file.refused]
EITHER = [file for file in FILES if file.refused == "*"]


def test_there_are_more_than_two_hundred_odd_files() -> None:
    assert len(FILES) > 200
    assert len({file.label for file in FILES}) == len(FILES)


@pytest.mark.parametrize("file", REFUSED, ids=lambda file: file.label)
def test_file_is_refused_with_the_right_reason(file: OddFile) -> None:
    with pytest.raises(Refusal) as caught:
        check_picture(file.content)
    assert caught.value.code in file.refused.split("|")
    assert "%(" not in caught.value.message


@pytest.mark.parametrize("file", ACCEPTED, ids=lambda file: file.label)
def test_file_becomes_the_right_picture(file: OddFile) -> None:
    checked = check_picture(file.content)
    assert_sound(checked)
    assert (checked.width, checked.height) == file.size
    assert (checked.content == file.content) is file.kept
    assert b"<script>" not in checked.content
    assert [remark.code for remark in checked.remarks][:1] == ([file.remark] if file.remark else [])
    if file.pixel:
        stored = Image.open(io.BytesIO(checked.content)).convert("RGB")
        found = stored.getpixel((file.size[0] // 4, file.size[1] // 4))
        assert isinstance(found, tuple)
        assert all(abs(a - b) <= 14 for a, b in zip(found, file.pixel, strict=True)), found


@pytest.mark.parametrize("file", EITHER, ids=lambda file: file.label)
def test_overwritten_file_becomes_a_sound_picture_or_is_refused(file: OddFile) -> None:
    try:
        checked = check_picture(file.content)
    except Refusal as refusal:
        known = refusal.code in MESSAGES
    else:
        assert_sound(checked)
        known = True
    assert known


def assert_sound(checked: CheckedPicture) -> None:
    """Check what holds for every accepted picture."""
    assert checked.sha256 == hashlib.sha256(checked.content).hexdigest()
    stored = Image.open(io.BytesIO(checked.content))
    stored.load()
    assert stored.size == (checked.width, checked.height)
    assert stored.mode in ("RGB", "L")
    assert stored.getexif().get(0x0112, 1) in (0, 1)
    assert checked.content_type == {"JPEG": "image/jpeg", "MPO": "image/jpeg"}.get(
        stored.format or "", f"image/{(stored.format or '').lower()}"
    )
    thumbnail = Image.open(io.BytesIO(checked.thumbnail))
    assert thumbnail.format == "WEBP"
    assert min(thumbnail.size) <= 256


def test_foreign_colours_are_converted() -> None:
    """A colour profile in which red and blue are swapped must turn red into blue."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Rename it, so that it is not known as sRGB, and exchange the colorants of red and blue.
    swapped = profile.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "Test".encode("utf-16-be")).replace(
        b"sRGB built", b"Test built"
    )
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", icc_profile=swapped)
    checked = check_picture(buffer.getvalue())
    found = Image.open(io.BytesIO(checked.content)).convert("RGB").getpixel((80, 70))
    assert isinstance(found, tuple)
    red, _green, blue = found
    assert (blue > 150, red < 80) == (True, True), found


def test_every_reason_has_a_sentence_that_ends() -> None:
    for code, sentence in MESSAGES.items():
        assert str(sentence).endswith("."), code
