"""Read a zip of pictures and captions entry by entry, within limits. Nothing is ever unpacked to disk.

Names are display text only; no path is made from them.
"""

from __future__ import annotations

import csv
import io
import json
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import IO

from projects.ingest import MAX_PICTURE_BYTES
from projects.reasons import Refusal

MAX_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 8 * 1024**3
# Pictures hardly shrink in a zip. A drawing in BMP can shrink 100 times, a bomb 1000 times and more.
MAX_RATIO = 250
_RATIO_MATTERS_ABOVE = 20 * 1024**2
# The table of contents of 10 000 entries with long names; checked before Python reads it into objects.
_MAX_DIRECTORY_BYTES = 6 * 1024**2
MAX_CAPTION_BYTES = 64 * 1024
MAX_CAPTION = 4000
MAX_TABLE_BYTES = 32 * 1024**2

_CAPTION_ENDINGS = (".txt", ".caption")
_TABLES = ("metadata.jsonl", "metadata.csv", "captions.csv", "captions.jsonl")
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "icon\r"}
_FILE_COLUMNS = ("file_name", "filename", "file", "image", "path")
_TEXT_COLUMNS = ("text", "caption", "prompt", "description")


class Role(StrEnum):
    """Say what an entry of a zip is for, judged by its name only; the content is judged when it is read."""

    PICTURE = "picture"
    CAPTION = "caption"
    TABLE = "table"
    REFUSED = "refused"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Entry:
    """Name one file of a zip. `code` says why it is refused or skipped."""

    name: str
    role: Role
    info: zipfile.ZipInfo
    code: str = ""


class Archive:
    """Give the entries of a zip and their bytes, never more than the limits allow."""

    def __init__(self, source: IO[bytes]) -> None:
        """Read the table of contents; raise Refusal when the zip as a whole cannot be used."""
        _check_directory(source)
        try:
            self._zip = zipfile.ZipFile(source)
            infos = [info for info in self._zip.infolist() if not info.is_dir()]
        except Refusal:
            raise
        except Exception as error:
            # zipfile raises BadZipFile, struct.error, UnicodeDecodeError and others on foreign bytes.
            raise Refusal("damaged_zip") from error
        if len(infos) > MAX_ENTRIES:
            raise Refusal("too_many_files", limit=MAX_ENTRIES)
        total = sum(info.file_size for info in infos)
        packed = max(1, sum(info.compress_size for info in infos))
        if total > MAX_UNPACKED_BYTES or (total > _RATIO_MATTERS_ABOVE and total / packed > MAX_RATIO):
            raise Refusal("zip_bomb")
        self.entries = list(_classified(infos))

    def read(self, entry: Entry, limit: int = MAX_PICTURE_BYTES) -> bytes:
        """Return the bytes of `entry`, at most `limit`; raise Refusal (`too_large`, `zip_bomb`, `damaged`)."""
        info = entry.info
        if info.file_size > limit:
            raise Refusal("too_large", limit=_megabytes(limit))
        if info.file_size > _RATIO_MATTERS_ABOVE and info.file_size / max(1, info.compress_size) > MAX_RATIO:
            raise Refusal("zip_bomb")
        try:
            with self._zip.open(info) as source:
                content = source.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, struct.error, ValueError) as error:
            raise Refusal("damaged") from error
        except (NotImplementedError, RuntimeError) as error:
            # A method of compression or encryption that we do not know.
            raise Refusal("encrypted" if info.flag_bits & 1 else "damaged") from error
        if len(content) > limit:
            raise Refusal("too_large", limit=_megabytes(limit))
        return content


def stem_of(name: str) -> str:
    """Return what a picture and its caption file share: the name without its ending, in one case and form."""
    path = PurePosixPath(name)
    ended = name[: -len(path.suffix)] if path.suffix else name
    return unicodedata.normalize("NFC", ended).casefold()[-255:]


def short_stem(name: str) -> str:
    """Return the stem of a name without its folders."""
    return stem_of(PurePosixPath(name).name)


def is_same_picture(name: str, other: str) -> bool:
    """Tell whether two names may mean one picture: without endings, the shorter path is the end of the longer one."""
    one, two = stem_of(name).split("/"), stem_of(other).split("/")
    shared = min(len(one), len(two))
    return one[-shared:] == two[-shared:]


def is_caption_name(name: str) -> bool:
    """Tell whether a file of this name is meant as the caption of a picture."""
    return name.lower().endswith(_CAPTION_ENDINGS)


def is_table_name(name: str) -> bool:
    """Tell whether a file of this name is meant as a table of captions."""
    return PurePosixPath(name.lower()).name in _TABLES


def display_name(name: str) -> str:
    """Return a file name as text to show: no control or direction characters, at most 255 long, end kept."""
    spaced = "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in name)
    visible = "".join(char for char in spaced if unicodedata.category(char) not in ("Cf", "Cs", "Co"))
    cleaned = unicodedata.normalize("NFC", " ".join(visible.split()))
    return cleaned[-255:] or "-"


def read_caption(content: bytes) -> str:
    """Return a caption file's text on one line; raise Refusal (`bad_caption`, `caption_too_long`)."""
    if len(content) > MAX_CAPTION_BYTES:
        raise Refusal("caption_too_long", limit=MAX_CAPTION)
    return clean_caption(_decode_text(content))


def clean_caption(text: str) -> str:
    """Return a caption on one line without control characters; raise Refusal (`caption_too_long`)."""
    text = "".join(char if char.isprintable() else " " for char in text.replace("\ufeff", ""))
    text = " ".join(text.split())
    if len(text) > MAX_CAPTION:
        raise Refusal("caption_too_long", limit=MAX_CAPTION)
    return text


def read_table(content: bytes, *, is_csv: bool) -> dict[str, str]:
    """Return a table of captions as {name of the file: caption}; raise Refusal (`bad_table`)."""
    text = _decode_text(content)
    captions: dict[str, str] = {}
    try:
        rows = list(csv.DictReader(io.StringIO(text))) if is_csv else _json_lines(text)
    except (csv.Error, ValueError, RecursionError) as error:
        raise Refusal("bad_table") from error
    for row in rows[: MAX_ENTRIES * 2]:
        if not isinstance(row, dict):
            raise Refusal("bad_table")
        lowered = {str(key).strip().lower(): value for key, value in row.items()}
        file = next((lowered[name] for name in _FILE_COLUMNS if lowered.get(name)), None)
        caption = next((lowered[name] for name in _TEXT_COLUMNS if lowered.get(name)), None)
        if isinstance(file, str) and isinstance(caption, str):
            captions[display_name(file.replace("\\", "/").removeprefix("./"))] = clean_caption(caption)
    if not captions:
        raise Refusal("bad_table")
    return captions


def _json_lines(text: str) -> list[object]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _decode_text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            text = content.decode("utf-16")
        except UnicodeDecodeError:
            raise Refusal("bad_caption") from None
    else:
        text = decode_bytes(content.removeprefix(b"\xef\xbb\xbf"))
    if "\0" in text or "\ufffd" in text:
        raise Refusal("bad_caption")
    return text


def decode_bytes(content: bytes) -> str:
    """Decode as UTF-8, else as GB18030 (what Windows in Chinese writes); U+FFFD where neither fits."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("gb18030", "replace")
    if not _is_unlikely(text):
        return text
    try:
        return content.decode("gb18030")
    except UnicodeDecodeError:
        return text


def _is_unlikely(text: str) -> bool:
    """Tell whether a text decoded from UTF-8 is rather GBK whose bytes happen to be valid: few letters, many scripts.

    Short GBK words such as "一只" are valid two-byte UTF-8 and come out as a Cyrillic letter with a Hebrew point.
    """
    foreign = [char for char in text if char > "\x7f"]
    if not foreign or max(foreign) > "\u07ff":
        return False
    scripts = {
        unicodedata.name(char, "?").split()[0] for char in foreign if unicodedata.category(char)[0] in "LM"
    }
    return len(scripts - {"LATIN", "COMBINING"}) > 1


def _check_directory(source: IO[bytes]) -> None:
    """Refuse a table of contents that is larger than any honest one, before it is read."""
    size = source.seek(0, io.SEEK_END)
    tail_start = max(0, size - 22 - 65_535)
    source.seek(tail_start)
    tail = source.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise Refusal("damaged_zip")
    count, directory_bytes = struct.unpack_from("<HL", tail, at + 10)
    if count == 0xFFFF or directory_bytes == 0xFFFFFFFF:
        locator = tail[at - 20 : at] if at >= 20 else b""
        if not locator.startswith(b"PK\x06\x07"):
            raise Refusal("damaged_zip")
        (offset,) = struct.unpack_from("<Q", locator, 8)
        if offset + 56 > size:
            raise Refusal("damaged_zip")
        source.seek(offset)
        record = source.read(56)
        if not record.startswith(b"PK\x06\x06"):
            raise Refusal("damaged_zip")
        count, directory_bytes = struct.unpack_from("<QQ", record, 32)
    if count > MAX_ENTRIES * 2 or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise Refusal("too_many_files", limit=MAX_ENTRIES)
    source.seek(0)


def _classified(infos: list[zipfile.ZipInfo]) -> Iterator[Entry]:
    seen: set[str] = set()
    for info in infos:
        name = _decoded_name(info).replace("\\", "/")
        shown = display_name(name)
        role, code = _role_of(name, info)
        if role not in (Role.REFUSED, Role.SKIPPED):
            if shown in seen:
                role, code = Role.REFUSED, "name_twice"
            seen.add(shown)
        yield Entry(name=shown, role=role, info=info, code=code)


def _role_of(name: str, info: zipfile.ZipInfo) -> tuple[Role, str]:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or (len(name) > 1 and name[1] == ":") or "\0" in name:
        return Role.REFUSED, "unsafe_name"
    if "__MACOSX" in parts or any(part.startswith(".") and part != "." for part in parts):
        return Role.SKIPPED, "hidden_file"
    if parts[-1].lower() in _SYSTEM_FILES:
        return Role.SKIPPED, "hidden_file"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return Role.REFUSED, "symlink"
    if info.flag_bits & 1:
        return Role.REFUSED, "encrypted"
    if is_table_name(name):
        return Role.TABLE, ""
    if is_caption_name(name):
        return Role.CAPTION, ""
    if name.lower().endswith((".json", ".md", ".csv", ".xml", ".yaml", ".yml", ".npz", ".log", ".html")):
        return Role.SKIPPED, "not_needed"
    return Role.PICTURE, ""


def _decoded_name(info: zipfile.ZipInfo) -> str:
    """Return an entry's name: UTF-8 where it is flagged or valid, else GBK (Windows in Chinese), else cp437."""
    name = info.orig_filename
    if info.flag_bits & 0x800:
        return name
    try:
        raw = name.encode("cp437")
    except UnicodeEncodeError:
        return name
    decoded = decode_bytes(raw)
    return name if "\ufffd" in decoded else decoded


def _megabytes(size: int) -> str:
    return f"{size // 1024**2} MB" if size >= 1024**2 else f"{size // 1024} kB"
