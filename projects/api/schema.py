"""What the document says about tus beyond what it finds in the code: the HEAD that tells where to go on."""

from __future__ import annotations

from typing import Any

_PATH = "/api/v1/uploads/{uid}"
_PROBLEMS = ("400", "401", "403", "404", "406", "410", "429")
_HEADERS = {
    "Tus-Resumable": "1.0.0",
    "Upload-Offset": "The byte to go on from.",
    "Upload-Length": "The size of the file in bytes.",
    "Upload-Expires": "When an unfinished upload is given up.",
}


def add_tus(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Add the HEAD of an upload, and the headers that answers of tus carry."""
    upload = result["paths"][_PATH]
    parameters = [each for each in upload["get"]["parameters"] if each["in"] == "path"]
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()}
    upload["head"] = {
        "operationId": "uploads_offset",
        "description": "tus: the headers Upload-Offset and Upload-Length say where to go on.",
        "parameters": parameters,
        "tags": upload["get"]["tags"],
        "security": upload["get"]["security"],
        "responses": {
            "200": {"description": "Where the upload stands.", "headers": headers},
            **{status: {"$ref": f"#/components/responses/Problem{status}"} for status in _PROBLEMS},
        },
    }
    upload["patch"]["responses"]["204"]["headers"] = headers
    return result
