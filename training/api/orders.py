"""What every order of short work can be asked for over the API, whatever it is for."""

from __future__ import annotations

from collections.abc import Callable

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.idempotency import idempotent
from training.api.events import FollowedJobs
from training.models import TrainingJob
from training.services.control import cancel_job, pause_job, resume_job


class Orders(FollowedJobs):
    """Give `cancel`, `pause` and `resume` to a resource whose rows are orders; it names them in its `can`."""

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    @idempotent()
    def cancel(self, request: Request, uid: str) -> Response:
        """End an order; what is done already stays."""
        return self._changed(cancel_job)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    @idempotent()
    def pause(self, request: Request, uid: str) -> Response:
        """Let an order rest until it is resumed."""
        return self._changed(pause_job)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    @idempotent()
    def resume(self, request: Request, uid: str) -> Response:
        """Put a paused order back into the queue; what is done is not done again."""
        return self._changed(resume_job)

    def _changed(self, change: Callable[..., TrainingJob]) -> Response:
        job = change(actor=self.actor, job=self.get_object())
        return self.shown(job.uid)
