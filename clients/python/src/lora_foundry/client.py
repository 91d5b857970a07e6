"""The client: one team's projects, datasets, trainings and models behind one key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from lora_foundry.rows import (
    Dataset,
    DatasetVersion,
    Item,
    Model,
    ModelVersion,
    Project,
    Row,
    Training,
    Upload,
)
from lora_foundry.transport import Transport
from lora_foundry.tus import Uploads

R = TypeVar("R", bound=Row)


class Client:
    """Speak to `base_url` with an API key (`lf_live_...`, `lf_test_...`) or an access token.

    `retries` is how often a request is tried again that may succeed later; `timeout` is in seconds, for each try.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        transport: Transport | None = None,
    ) -> None:
        self.transport = transport or Transport(api_key, base_url, timeout=timeout, retries=retries)
        self.projects = Projects(self, Project, "/projects")
        self.datasets = Datasets(self, Dataset, "/datasets")
        self.uploads = Uploads(self)
        self.trainings = Trainings(self, Training, "/trainings")
        self.models = Deletable(self, Model, "/models")
        self.model_versions = ModelVersions(self, ModelVersion, "/model_versions")

    def me(self) -> Mapping[str, Any]:
        """Return who the key acts for and what it may do."""
        found: Mapping[str, Any] = self.transport.request("GET", "/me").json()
        return found

    def limits(self) -> Mapping[str, Any]:
        """Return the team's quotas with what is used."""
        found: Mapping[str, Any] = self.transport.request("GET", "/limits").json()
        return found

    def upload(self, path: str | os.PathLike[str], *, dataset: str) -> Upload:
        """Send a picture, a caption file or a zip into a dataset; `wait()` until its files have been looked at."""
        return self.uploads.send(path, dataset=dataset)

    def rows(self, kind: type[R], path: str, query: Mapping[str, Any] | None = None) -> Iterator[R]:
        """Yield every row of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.transport.request(
                "GET", path, query={"limit": 100, **(query or {}), "cursor": cursor}
            ).json()
            for data in page["data"]:
                yield kind.of(self, data)
            cursor = page["next_cursor"]
            if cursor is None:
                return


class Shown(Generic[R]):
    """Rows that can be asked for one by one."""

    def __init__(self, client: Client, kind: type[R], path: str) -> None:
        self.client, self.kind, self.path = client, kind, path

    def get(self, uid: str) -> R:
        """Return one row; raise NotFound."""
        return self._row("GET", f"{self.path}/{uid}")

    def _row(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> R:
        return self.kind.of(self.client, self.client.transport.request(method, path, body=body).json())


class Collection(Shown[R]):
    """Rows that can be listed, with the filters of the API by name."""

    def list(self, **filters: Any) -> Iterator[R]:
        """Yield the rows, the newest first."""
        return self.client.rows(self.kind, self.path, filters)

    def update(self, uid: str, **changes: Any) -> R:
        """Change a row; what is left out stays."""
        return self._row("PATCH", f"{self.path}/{uid}", changes)


class Deletable(Collection[R]):
    """Rows that can be deleted as well."""

    def delete(self, uid: str) -> None:
        """Delete a row with what belongs to it; raise Conflict while something else needs it."""
        self.client.transport.request("DELETE", f"{self.path}/{uid}")


class ModelVersions(Shown[ModelVersion]):
    def delete(self, uid: str) -> None:
        """Delete a version with its files and samples; the others keep their numbers."""
        self.client.transport.request("DELETE", f"{self.path}/{uid}")


class Projects(Collection[Project]):
    def create(
        self, *, name: str, description: str = "", metadata: Mapping[str, str] | None = None
    ) -> Project:
        """Make a project."""
        body = {"name": name, "description": description, "metadata": dict(metadata or {})}
        return self._row("POST", self.path, body)


class Datasets(Deletable[Dataset]):
    def create(self, *, project: str, name: str) -> Dataset:
        """Make a dataset in a project."""
        return self._row("POST", self.path, {"project": project, "name": name})

    def items(self, uid: str, **filters: Any) -> Iterator[Item]:
        """Yield the pictures of a dataset, the newest first."""
        return self.client.rows(Item, f"{self.path}/{uid}/items", filters)

    def change_items(
        self,
        uid: str,
        action: str,
        *,
        items: Sequence[str] | None = None,
        text: str = "",
        replacement: str = "",
    ) -> int:
        """Change many pictures at once (`set`, `prepend`, `append`, `replace`, `remove`, `exclude`, ...).

        Return how many changed.
        """
        body: dict[str, Any] = {"action": action, "text": text, "replacement": replacement}
        if items is not None:
            body["items"] = list(items)
        answer = self.client.transport.request("POST", f"{self.path}/{uid}/items:batch", body=body)
        return int(answer.json()["changed"])

    def freeze(self, uid: str) -> DatasetVersion:
        """Freeze a dataset as it is now; an unchanged one gives its old version back."""
        answer = self.client.transport.request("POST", f"{self.path}/{uid}/versions")
        return DatasetVersion.of(self.client, answer.json())

    def versions(self, uid: str) -> Iterator[DatasetVersion]:
        """Yield the frozen versions of a dataset, the newest first."""
        return self.client.rows(DatasetVersion, f"{self.path}/{uid}/versions")


class Trainings(Collection[Training]):
    def create(
        self,
        *,
        dataset_version: str,
        base_model: str,
        template: str,
        name: str,
        trigger: str = "",
        settings: Mapping[str, Any] | None = None,
        prompts: Sequence[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        simulate: str = "",
    ) -> Training:
        """Queue a training; what `settings` leaves out is recommended. `simulate` needs a test key."""
        body: dict[str, Any] = {
            "dataset_version": dataset_version,
            "base_model": base_model,
            "template": template,
            "name": name,
            "trigger": trigger,
            "settings": dict(settings or {}),
            "metadata": dict(metadata or {}),
        }
        if prompts is not None:
            body["prompts"] = list(prompts)
        if simulate:
            body["simulate"] = simulate
        return self._row("POST", self.path, body)

    def estimate(self, **body: Any) -> Mapping[str, Any]:
        """Say how long a training would take and whether it fits, without starting it."""
        found: Mapping[str, Any] = self.client.transport.request(
            "POST", "/trainings:estimate", body=body
        ).json()
        return found
