"""Zips: hostile ones are refused, odd ones are read as their makers meant them."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

from projects import archive
from projects.archive import (
    Archive,
    Role,
    clean_caption,
    display_name,
    is_same_picture,
    read_caption,
    read_table,
    stem_of,
)
from projects.reasons import Refusal
from tests.factories import png_bytes


def zipped(files: dict[str, bytes], **options: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "w", **options) as made:
            for name, content in files.items():
                made.writestr(name, content)
    return buffer


def roles(opened: Archive) -> dict[str, tuple[Role, str]]:
    return {entry.name: (entry.role, entry.code) for entry in opened.entries}


@pytest.mark.parametrize(
    ("name", "shown", "role", "code"),
    [
        ("a.png", "a.png", Role.PICTURE, ""),
        ("a cup/猫 1.jpeg", "a cup/猫 1.jpeg", Role.PICTURE, ""),
        ("no ending", "no ending", Role.PICTURE, ""),
        ("a.txt", "a.txt", Role.CAPTION, ""),
        ("a.CAPTION", "a.CAPTION", Role.CAPTION, ""),
        ("train/metadata.jsonl", "train/metadata.jsonl", Role.TABLE, ""),
        ("captions.csv", "captions.csv", Role.TABLE, ""),
        ("other.csv", "other.csv", Role.SKIPPED, "not_needed"),
        ("config.json", "config.json", Role.SKIPPED, "not_needed"),
        ("../a.png", "../a.png", Role.REFUSED, "unsafe_name"),
        ("a/../../b.png", "a/../../b.png", Role.REFUSED, "unsafe_name"),
        ("/etc/passwd", "/etc/passwd", Role.REFUSED, "unsafe_name"),
        ("\\\\server\\share\\a.png", "//server/share/a.png", Role.REFUSED, "unsafe_name"),
        ("..\\..\\a.png", "../../a.png", Role.REFUSED, "unsafe_name"),
        ("C:\\a.png", "C:/a.png", Role.REFUSED, "unsafe_name"),
        ("C:a.png", "C:a.png", Role.REFUSED, "unsafe_name"),
        ("folder\\a.png", "folder/a.png", Role.PICTURE, ""),
        ("./a.png", "./a.png", Role.PICTURE, ""),
        (".hidden.png", ".hidden.png", Role.SKIPPED, "hidden_file"),
        (".git/config", ".git/config", Role.SKIPPED, "hidden_file"),
        ("__MACOSX/._a.png", "__MACOSX/._a.png", Role.SKIPPED, "hidden_file"),
        ("a/Thumbs.db", "a/Thumbs.db", Role.SKIPPED, "hidden_file"),
        ("DESKTOP.INI", "DESKTOP.INI", Role.SKIPPED, "hidden_file"),
        ("a\u202egnp.exe", "agnp.exe", Role.PICTURE, ""),
        ("line\nbreak.png", "line break.png", Role.PICTURE, ""),
    ],
)
def test_name_in_a_zip_is_judged_and_shown(name: str, shown: str, role: Role, code: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        info = zipfile.ZipInfo("x")
        # Set afterwards: zipfile cleans a name given to the constructor.
        info.filename = name
        made.writestr(info, b"x")
    assert roles(Archive(buffer)) == {shown: (role, code)}


def raw_named(name: bytes) -> io.BytesIO:
    """Return a zip with one entry whose name is these bytes, without the flag for UTF-8."""
    buffer = zipped({"n" * len(name): b"x"})
    return io.BytesIO(buffer.getvalue().replace(b"n" * len(name), name))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("猫和狗.png".encode("gbk"), "猫和狗.png"),
        ("一只.png".encode("gbk"), "一只.png"),
        ("图片/猫 一.png".encode(), "图片/猫 一.png"),
        ("café.png".encode(), "café.png"),
        ("café.png".encode("cp437"), "café.png"),
        (b"plain.png", "plain.png"),
    ],
)
def test_chinese_and_accented_names_are_decoded(raw: bytes, shown: str) -> None:
    assert [entry.name for entry in Archive(raw_named(raw)).entries] == [shown]


def test_symlink_and_device_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, kind in (("link.png", stat.S_IFLNK), ("device.png", stat.S_IFCHR)):
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (kind | 0o777) << 16
            made.writestr(info, b"/etc/passwd")
    assert roles(Archive(buffer)) == {
        "link.png": (Role.REFUSED, "symlink"),
        "device.png": (Role.REFUSED, "symlink"),
    }


def test_locked_file_is_refused() -> None:
    content = bytearray(zipped({"a.png": b"x"}).getvalue())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert roles(Archive(io.BytesIO(content))) == {"a.png": (Role.REFUSED, "encrypted")}


def test_second_file_of_a_name_is_refused() -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "w") as made:
            made.writestr("a.png", b"1")
            made.writestr("a.png", b"2")
    first, second = Archive(buffer).entries
    assert (first.role, second.role, second.code) == (Role.PICTURE, Role.REFUSED, "name_twice")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "damaged_zip"),
        (b"PK\x03\x04" + b"\0" * 100, "damaged_zip"),
        (zipped({"a.png": b"x" * 2000}).getvalue()[:-10], "damaged_zip"),
        (zipped({"a.png": b"x" * 2000}).getvalue()[:200], "damaged_zip"),
        (b"PK\x05\x06" + b"\xff" * 18, "damaged_zip"),
        (b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 50_000, 50_000, 46 * 50_000, 0, 0), "too_many_files"),
        (b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 3, 3, 900_000_000, 0, 0), "too_many_files"),
    ],
)
def test_zip_that_cannot_be_read_says_why(content: bytes, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        Archive(io.BytesIO(content))
    assert caught.value.code == code


def test_zip_of_too_many_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 20)
    assert len(Archive(zipped({f"{n}.png": b"x" for n in range(20)})).entries) == 20
    with pytest.raises(Refusal, match="too_many_files"):
        Archive(zipped({f"{n}.png": b"x" for n in range(21)}))


def test_zip_bomb_is_refused_before_it_unpacks() -> None:
    bomb = zipped({f"{n}.png": b"\0" * 30_000_000 for n in range(3)}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb.getvalue()) < 200_000
    with pytest.raises(Refusal, match="zip_bomb"):
        Archive(bomb)


def test_one_bomb_among_pictures_is_refused_alone() -> None:
    files = {"bomb.png": b"\0" * 30_000_000, "a.bin": os.urandom(400_000)}
    opened = Archive(zipped(files, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(Refusal, match="zip_bomb"):
        opened.read(opened.entries[0])
    assert len(opened.read(opened.entries[1])) == 400_000


def test_entry_that_lies_about_its_size_is_damaged() -> None:
    content = bytearray(zipped({"a.png": b"x" * 5000}, compression=zipfile.ZIP_DEFLATED).getvalue())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<L", 100)
    opened = Archive(io.BytesIO(content))
    with pytest.raises(Refusal, match="damaged"):
        opened.read(opened.entries[0])


def test_entry_with_a_wrong_checksum_is_damaged() -> None:
    content = zipped({"a.png": png_bytes()}).getvalue().replace(b"IDAT", b"IDAX", 1)
    opened = Archive(io.BytesIO(content))
    with pytest.raises(Refusal, match="damaged"):
        opened.read(opened.entries[0])


def test_entry_larger_than_the_limit_is_refused() -> None:
    opened = Archive(zipped({"a.png": b"x" * 3000}))
    with pytest.raises(Refusal, match="too_large"):
        opened.read(opened.entries[0], limit=2999)


def test_nothing_is_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened = Archive(zipped({"../a.png": b"x", "b.png": b"x", "/abs.png": b"x"}))
    for entry in opened.entries:
        opened.read(entry)
    assert list(tmp_path.rglob("*")) == []
    assert not (tmp_path.parent / "a.png").exists()


@pytest.mark.parametrize(
    ("content", "caption"),
    [
        (b"a red cup", "a red cup"),
        (b"\xef\xbb\xbfa red cup\r\n", "a red cup"),
        ("一只红色的杯子".encode(), "一只红色的杯子"),
        ("一只红色的杯子".encode("gbk"), "一只红色的杯子"),
        ("一只".encode("gbk"), "一只"),
        ("café, naïve".encode(), "café, naïve"),
        ("чашка".encode(), "чашка"),
        ("a cup".encode("utf-16"), "a cup"),
        (b"two\nlines\ttab", "two lines tab"),
        (b"", ""),
    ],
)
def test_caption_file_is_read(content: bytes, caption: str) -> None:
    assert read_caption(content) == caption


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "bad_caption"),
        (b"\xff\xfe\x00", "bad_caption"),
        (b"a\0b", "bad_caption"),
        (b"x" * 4001, "caption_too_long"),
        (b"x" * 70_000, "caption_too_long"),
    ],
)
def test_file_that_is_no_caption_says_why(content: bytes, code: str) -> None:
    with pytest.raises(Refusal, match=code):
        read_caption(content)


def test_caption_tables_in_every_usual_shape() -> None:
    wanted = {"a.png": "a cup", "sub/b.png": "a mug"}
    lines = b'{"file_name": "a.png", "text": "a cup"}\n\n{"file_name": "sub/b.png", "caption": "a mug"}\n'
    assert read_table(lines, is_csv=False) == wanted
    table = "File_Name,Text\r\na.png,a cup\r\n./sub\\b.png,a mug\r\n".encode("utf-8-sig")
    assert read_table(table, is_csv=True) == wanted


@pytest.mark.parametrize("content", [b"{not json", b"[1, 2]", b'{"a": 1}', b"[" * 100_000, b"\n"])
def test_table_that_cannot_be_read_says_so(content: bytes) -> None:
    with pytest.raises(Refusal, match="bad_table"):
        read_table(content, is_csv=False)


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("a.png", "A.txt", True),
        ("images/a.png", "a.png", True),
        ("set/images/a.png", "images/a", True),
        ("cats/1.png", "dogs/1.png", False),
        ("a.png", "b.png", False),
    ],
)
def test_two_names_may_mean_one_picture_if_one_only_leaves_out_folders(
    name: str, other: str, same: bool
) -> None:
    assert is_same_picture(name, other) is is_same_picture(other, name) is same


def test_names_are_compared_without_ending_case_and_form() -> None:
    assert stem_of("Cafe\u0301 1.PNG") == stem_of("café 1.txt") == "café 1"
    assert stem_of("a.b.png") == "a.b"
    assert display_name("\u200b\x00") == "-"
    assert len(display_name("x" * 400 + ".png")) == 255
    assert clean_caption(" a \u2028 b ") == "a b"
