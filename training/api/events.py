"""The events of a job: page by page, or as a stream."""

from __future__ import annotations

import functools
from typing import Any

from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.auth import actor_now
from accounts.api.base import TeamViewSet
from core.realtime.event_streams import CONTENT_TYPE, Stream, follow, last_event_id
from training.access import is_shown_to
from training.api.serializers import EventPage
from training.models import TrainingJob
from training.services.telemetry import EVENTS_PER_PAGE, events_after

LAST_EVENT_ID = OpenApiParameter(
    name="Last-Event-ID",
    type={"type": "string", "pattern": "^[0-9]{1,9}$"},
    location=OpenApiParameter.HEADER,
    description="The last seq that came, to go on behind it; it goes before `after`.",
)
ONE_EVENT = {
    "type": "object",
    "description": "Each event of the stream; `data` is the JSON that `/events` gives.",
    "properties": {
        "id": {"type": "string", "description": "The seq."},
        "event": {"type": "string", "description": "The type."},
        "data": {"type": "string"},
    },
    "required": ["data"],
}
NOTHING_MORE = OpenApiResponse(description="The job has ended, and there is nothing after this seq.")


class FollowedJobs(TeamViewSet):
    """Give `events` and `stream` to a resource whose rows are jobs; it names both in its `can` and `queries`."""

    binary = ("stream",)

    @extend_schema(responses=EventPage)
    @action(detail=True)
    def events(self, request: Request, uid: str) -> Response:
        """List what happened, in order; the same events come over the WebSocket, with the same seq."""
        return Response(event_page(self.get_object(), self.query.get("after", 0)))

    @extend_schema(
        parameters=[LAST_EVENT_ID],
        responses={(200, CONTENT_TYPE): ONE_EVENT, 204: NOTHING_MORE},
    )
    @action(detail=True)
    def stream(self, request: Request, uid: str) -> HttpResponseBase:
        """Follow a job as Server-Sent Events: what is stored, then what comes, with the same seq as `id`.

        `event` is the type and `data` the event as `/events` gives it. A comment comes at least every 15 seconds. The
        stream ends behind the event that ends the job, and when the credential may not see it any more.
        """
        job = self.get_object()
        after = last_event_id(request.headers.get("Last-Event-ID", ""), self.query.get("after", 0))
        if job.is_finished and after >= job.last_seq:
            # This is how the standard tells clients not to come again.
            return Response(status=204)
        followed = Stream(
            topic=f"training:{job.uid}",
            after=after,
            subject=self.throttle_subject(),
            has_ended=job.is_finished,
            may_read=functools.partial(_may_still_see, request, job.uid),
        )
        return follow(request._request, followed)


def _may_still_see(request: Request, uid: str) -> bool:
    actor = actor_now(request)
    return actor is not None and is_shown_to(actor, uid)


def event_page(job: TrainingJob, after: int) -> dict[str, Any]:
    """Return the events of a job after a seq, one page of them."""
    items = events_after(job, after, EVENTS_PER_PAGE + 1)
    page = items[:EVENTS_PER_PAGE]
    return {
        "data": page,
        "has_more": len(items) > len(page),
        "next_after": page[-1]["seq"] if page else after,
    }
