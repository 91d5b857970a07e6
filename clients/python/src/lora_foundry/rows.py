"""What the API answers with, as objects. `raw` holds the whole JSON, fields that are newer than this client too."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lora_foundry import live
from lora_foundry.errors import TrainingFailed

if TYPE_CHECKING:
    from lora_foundry.client import Client

ENDED = frozenset({"succeeded", "failed", "canceled", "stopped"})
_READ_BYTES = 1024 * 1024

R = TypeVar("R", bound="Row")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Be the base of all rows; made from JSON by `of`."""

    raw: Mapping[str, Any] = dataclasses.field(repr=False, compare=False)
    client: Client = dataclasses.field(repr=False, compare=False)

    @classmethod
    def of(cls, client: Client, data: Mapping[str, Any]) -> Self:
        """Return the row that `data` describes; fields this class does not know stay in `raw`."""
        names = {each.name for each in dataclasses.fields(cls)} - {"raw", "client"}
        return cls(raw=data, client=client, **{name: data[name] for name in names if name in data})


@dataclass(frozen=True, kw_only=True)
class Project(Row):
    id: str
    name: str
    description: str = ""
    datasets: int = 0
    models: int = 0
    pictures: int = 0
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    archived_at: str | None = None
    created_at: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset(Row):
    id: str
    project: str
    name: str
    items: int = 0
    versions: int = 0
    created_at: str = ""


@dataclass(frozen=True, kw_only=True)
class Item(Row):
    id: str
    dataset: str
    filename: str
    caption: str = ""
    excluded: bool = False
    width: int | None = None
    height: int | None = None
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetVersion(Row):
    id: str
    dataset: str
    number: int
    items: int
    manifest_sha256: str = ""


@dataclass(frozen=True)
class UploadedFile:
    """Say what became of one file of an upload (a zip has many)."""

    filename: str
    outcome: str
    code: str = ""
    message: str = ""
    item: str | None = None


@dataclass(frozen=True, kw_only=True)
class Upload(Row):
    id: str
    dataset: str
    filename: str
    size: int
    offset: int
    state: str

    @property
    def files(self) -> list[UploadedFile]:
        """Return what became of each file; empty until the upload is done."""
        names = {each.name for each in dataclasses.fields(UploadedFile)}
        return [
            UploadedFile(**{name: row[name] for name in names if name in row})
            for row in self.raw.get("files", [])
        ]

    def wait(self, *, timeout: float = 600.0, every: float = 0.5) -> Upload:
        """Wait until the files have been looked at; raise TimeoutError."""
        for upload in _polls(lambda: self.client.uploads.get(self.id), timeout, every):
            if upload.state == "done":
                return upload
        raise TimeoutError(f"{self.id} is still {self.state} after {timeout:g} s")


@dataclass(frozen=True)
class Event:
    """Be one line of a training's story."""

    seq: int
    type: str
    at: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """Say why a training failed, what helps, and which settings to change for that."""

    code: str
    category: str
    message: str
    hint: str | None = None
    patch: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Row):
    id: str
    step: int
    epoch: int
    is_final: bool
    sha256: str
    size: int
    download: str


@dataclass(frozen=True, kw_only=True)
class Model(Row):
    id: str
    project: str
    name: str
    description: str = ""
    versions: int = 0
    newest_version: int | None = None


@dataclass(frozen=True, kw_only=True)
class ModelVersion(Row):
    id: str
    model: str
    number: int
    trigger_words: str = ""
    training: str = ""
    base_model: str = ""
    files: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)

    def download(self, target: str | os.PathLike[str] = ".") -> Path:
        """Download the final file into the folder (or as the file) `target` and return its path; checked by hash."""
        final = next((file for file in self.files if file.get("is_final")), self.files[0])
        address = str(self.raw["urls"]["download"])
        return save(self.client, address, target, str(final["filename"]), str(final["sha256"]))


@dataclass(frozen=True, kw_only=True)
class Training(Row):
    id: str
    project: str
    name: str
    status: str
    base_model: str
    dataset_version: str
    template: str
    desired: str = ""
    phase: str = ""
    test: bool = False
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    progress: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    retry_of: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def error(self) -> Failure | None:
        """Return why it failed, if it did."""
        found = self.raw.get("error")
        return Failure(**found) if found else None

    @property
    def model_version(self) -> str | None:
        """Return the id of what it produced."""
        output = self.raw.get("output")
        return str(output["model_version"]) if output else None

    def refresh(self) -> Training:
        """Return the training as it is now."""
        return self.client.trainings.get(self.id)

    def wait(self, *, timeout: float | None = None, every: float = 2.0, check: bool = True) -> Training:
        """Wait until it has ended; raise TimeoutError, or TrainingFailed unless it ended with weights."""
        for training in _polls(self.refresh, timeout, every):
            if training.has_ended:
                if check and training.model_version is None:
                    raise TrainingFailed(training)
                return training
        raise TimeoutError(f"{self.id} has not ended after {timeout:g} s")

    def events(self, *, after: int = 0, follow: bool = False, every: float = 1.0) -> Iterator[Event]:
        """Yield what happened, in order; with `follow`, as it happens and until the training has ended.

        A stream that breaks off is taken up again after `every` seconds. The `seq` of an ended training may have
        gaps: its `metrics` events are kept for a day, its curves (`metrics()`) for good.
        """
        transport, more = self.client.transport, not follow
        if follow:
            for row in live.events(transport, self.id, after=after, every=every):
                yield Event(row["seq"], row["type"], row["at"], row["data"])
        while more:
            page = transport.request("GET", f"/trainings/{self.id}/events", query={"after": after}).json()
            for row in page["data"]:
                yield Event(row["seq"], row["type"], row["at"], row["data"])
            after, more = page["next_after"], page["has_more"]

    def metrics(self, *keys: str) -> dict[str, list[tuple[int, float]]]:
        """Return the curves as (step, value)."""
        query = {"keys": ",".join(keys) or None}
        found = self.client.transport.request("GET", f"/trainings/{self.id}/metrics", query=query).json()
        return {
            name: [(int(step), float(value)) for step, value in points]
            for name, points in found["series"].items()
        }

    def checkpoints(self) -> Iterator[Checkpoint]:
        """Yield the files made on the way, the newest first."""
        return self.client.rows(Checkpoint, f"/trainings/{self.id}/checkpoints")

    def cancel(self) -> Training:
        """End it without a result."""
        return self._do("cancel")

    def stop(self) -> Training:
        """End it early and keep what it learned."""
        return self._do("stop")

    def pause(self) -> Training:
        """Let it rest until it is resumed."""
        return self._do("pause")

    def resume(self) -> Training:
        """Put it back into the queue."""
        return self._do("resume")

    def retry(self, *, settings: Mapping[str, Any] | None = None) -> Training:
        """Queue a new training with the recipe of this one, which has ended, and `settings` on top."""
        return self._do("retry", {"settings": dict(settings or {})})

    def clone(self, *, name: str = "", settings: Mapping[str, Any] | None = None) -> Training:
        """Queue a new training like this one, whatever became of it, with `settings` on top."""
        body: dict[str, Any] = {"settings": dict(settings or {})}
        return self._do("clone", {**body, "name": name} if name else body)

    def download(self, target: str | os.PathLike[str] = ".") -> Path:
        """Download the weights into the folder (or as the file) `target`; raise TrainingFailed if there are none."""
        if self.model_version is None:
            raise TrainingFailed(self)
        return self.client.model_versions.get(self.model_version).download(target)

    def _do(self, verb: str, body: Mapping[str, Any] | None = None) -> Training:
        answer = self.client.transport.request("POST", f"/trainings/{self.id}/{verb}", body=body)
        return Training.of(self.client, answer.json())


def save(client: Client, address: str, target: str | os.PathLike[str], name: str, sha256: str) -> Path:
    """Write what lies at `address` to `target`, whole or not at all; raise ValueError if its hash is another."""
    path = Path(target)
    if path.is_dir() or not path.suffix:
        path = path / Path(name.replace("\\", "/")).name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    digest = hashlib.sha256()
    source = client.transport.stream(address)
    try:
        with partial.open("wb") as out:
            for piece in source.stream(_READ_BYTES):
                digest.update(piece)
                out.write(piece)
    finally:
        source.release_conn()
    if digest.hexdigest() != sha256:
        partial.unlink()
        raise ValueError(f"{name} was damaged on its way: expected {sha256}, got {digest.hexdigest()}")
    os.replace(partial, path)
    return path


def _polls(ask: Callable[[], R], timeout: float | None, every: float) -> Iterator[R]:
    """Yield answers until the time is over."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        row = ask()
        yield row
        if deadline is not None and time.monotonic() >= deadline:
            return
        row.client.transport.sleep(every)
