"""`/uploads`: tus 1.0 for large files and bad networks, one multipart POST for everything else."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from accounts.actor import Actor
from accounts.api.base import Listed
from accounts.roles import Can
from core.api.idempotency import idempotent
from projects import selectors, tus
from projects.api.serializers import UploadInput, UploadQuery, UploadSerializer
from projects.models import Upload
from projects.services.uploads import receive_file


def _header(name: str, description: str, *, required: bool = False) -> OpenApiParameter:
    return OpenApiParameter(
        name, OpenApiTypes.STR, OpenApiParameter.HEADER, required=required, description=description
    )


_TUS = _header("Tus-Resumable", "1.0.0")


class UploadViewSet(Listed):
    can = {
        "list": Can.DATASET_VIEW,
        "create": Can.DATASET_EDIT,
        "retrieve": Can.DATASET_VIEW,
        "offset": Can.DATASET_EDIT,
        "append": Can.DATASET_EDIT,
        "destroy": Can.DATASET_EDIT,
    }
    serializer_class = UploadSerializer
    parser_classes = [MultiPartParser]
    queries: ClassVar[dict[str, Any]] = {"list": UploadQuery}
    # The pieces of a large file are many requests; to look at uploads is one like any other.
    buckets: ClassVar[dict[str, str]] = dict.fromkeys(("create", "offset", "append", "destroy"), "upload")
    problems: ClassVar[dict[str, tuple[int, ...]]] = {
        "create": (412, 460),
        "offset": (410,),
        "append": (410, 412, 460),
        "destroy": (412,),
    }

    def scoped(self, actor: Actor) -> QuerySet[Any]:
        rows = selectors.uploads(actor)
        if self.action == "list":
            if dataset := self.query.get("dataset"):
                rows = rows.filter(dataset__uid=dataset)
            if state := self.query.get("state"):
                rows = rows.filter(state=state)
        return rows

    @extend_schema(
        request={"multipart/form-data": UploadInput},
        responses={201: UploadSerializer},
        parameters=[
            _TUS,
            _header("Upload-Length", "tus: size of the file in bytes"),
            _header("Upload-Metadata", "tus: `filename <base64>,dataset <base64 of the dataset's id>`"),
        ],
    )
    @idempotent()
    def create(self, request: Request) -> Response:
        """Send a file as multipart/form-data, or, with tus headers, announce one and PATCH its bytes.

        The files are checked in the background: poll `GET /uploads/{id}` until `state` is `done`.
        """
        if "Tus-Resumable" in request.headers:
            announced: list[Upload] = []

            def address(upload: Upload) -> str:
                announced.append(upload)
                return self._address(upload)

            answer = tus.create(request._request, self.actor, "", address)
            headers = {name: value for name, value in answer.items() if name != "Content-Type"}
            response = self.shown(announced[0].uid, answer.status_code)
            for name, value in headers.items():
                response[name] = value
            return response
        values = self.input(UploadInput)
        file = values["file"]
        upload = receive_file(
            actor=self.actor,
            dataset_uid=values["dataset"],
            filename=file.name,
            size=file.size,
            source=file,
        )
        response = self.shown(upload.uid, 201)
        response["Location"] = self._address(upload)
        return response

    def offset(self, request: Request, uid: str) -> HttpResponse:
        """Answer the HEAD of tus; `projects.api.schema` documents it."""
        return tus.status(request._request, self.actor, uid)

    @extend_schema(
        operation_id="uploads_append",
        request={"application/offset+octet-stream": OpenApiTypes.BINARY},
        responses={204: None},
        parameters=[
            _TUS,
            _header("Upload-Offset", "the byte the body begins at", required=True),
            _header("Upload-Checksum", "`sha256 <base64>` of the body; also sha1, md5"),
        ],
        description="tus: send bytes from Upload-Offset on.",
    )
    def append(self, request: Request, uid: str) -> HttpResponse:
        return tus.receive(request._request, self.actor, uid)

    @extend_schema(parameters=[_TUS], responses={204: None}, description="tus: give the upload up.")
    def destroy(self, request: Request, uid: str) -> HttpResponse:
        return tus.remove(request._request, self.actor, uid)

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return tus.options()

    def _address(self, upload: Upload) -> str:
        return str(reverse("upload-detail", kwargs={"uid": upload.uid}, request=self.request))
