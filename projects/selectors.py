"""What the pages and the API read. Every function costs the same number of queries for 2 and for 200 rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, F, IntegerField, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Least
from django.utils import timezone

from accounts.actor import Actor, require
from accounts.roles import Can
from core.errors import NotFound
from projects.models import (
    Blob,
    Dataset,
    DatasetVersion,
    Item,
    LoraFile,
    LoraModel,
    LoraSample,
    LoraVersion,
    Project,
    ProjectMember,
    Upload,
    UploadedFile,
    UploadState,
)
from projects.visibility import seen_blobs, seen_by

PAGE_SIZE = 60
COVER_PICTURES = 4
# Below this a picture must be enlarged for every base model we know.
TRAINING_SIDE = 512


def _count(rows: QuerySet[Any], parent: str) -> Coalesce:
    """Count the rows that belong to the outer row by `parent`, without a join that multiplies others."""
    counted = (
        rows.filter(**{parent: OuterRef("pk")}).order_by().values(parent).annotate(n=Count("pk")).values("n")
    )
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)


def projects(actor: Actor, *, archived: bool | None = False) -> QuerySet[Project]:
    """Return the team's projects (None: archived or not), the newest first, with counts and a few pictures."""
    require(actor, Can.PROJECT_VIEW)
    team = actor.team
    items = Item.objects.for_team(team)
    rows = seen_by(actor, Project.objects.for_team(team), "")
    if archived is not None:
        rows = rows.filter(archived_at__isnull=not archived)
    return rows.annotate(
        dataset_count=_count(Dataset.objects.for_team(team), "project"),
        model_count=_count(LoraModel.objects.for_team(team), "project"),
        picture_count=_count(items, "dataset__project"),
        cover=ArraySubquery(
            items.filter(dataset__project=OuterRef("pk"), excluded=False)
            .order_by("id")
            .values("blob__uid")[:COVER_PICTURES]
        ),
    ).order_by("-id")


def project(actor: Actor, uid: str) -> Project:
    """Return a project of the actor's team; raise NotFound."""
    require(actor, Can.PROJECT_VIEW)
    return _one(seen_by(actor, Project.objects.for_team(actor.team), ""), uid)


def project_members(actor: Actor, project: Project) -> QuerySet[ProjectMember]:
    """Return who is on the list of a project."""
    require(actor, Can.PROJECT_VIEW)
    return ProjectMember.objects.for_team(actor.team).filter(project=project).select_related("user")


def datasets(actor: Actor, project: Project | None = None) -> QuerySet[Dataset]:
    """Return datasets (of one project, or of the team), the newest first, with counts and a few pictures."""
    require(actor, Can.DATASET_VIEW)
    team = actor.team
    items = Item.objects.for_team(team)
    rows = seen_by(actor, Dataset.objects.for_team(team).select_related("project"))
    if project is not None:
        rows = rows.filter(project=project)
    return rows.annotate(
        item_count=_count(items, "dataset"),
        version_count=_count(DatasetVersion.objects.for_team(team), "dataset"),
        cover=ArraySubquery(
            items.filter(dataset=OuterRef("pk"), excluded=False)
            .order_by("id")
            .values("blob__uid")[:COVER_PICTURES]
        ),
    ).order_by("-id")


def dataset(actor: Actor, uid: str) -> Dataset:
    """Return a dataset of the actor's team with its project; raise NotFound."""
    require(actor, Can.DATASET_VIEW)
    return _one(seen_by(actor, Dataset.objects.for_team(actor.team).select_related("project")), uid)


@dataclass(frozen=True, slots=True)
class DatasetHealth:
    """Count the pictures of a dataset and those that deserve a look. Excluded ones count only as excluded."""

    pictures: int
    included: int
    excluded: int
    without_caption: int
    small: int


def dataset_health(actor: Actor, dataset: Dataset) -> DatasetHealth:
    """Return the counts of a dataset in one query."""
    require(actor, Can.DATASET_VIEW)
    included = Q(excluded=False)
    counts = (
        Item.objects.for_team(actor.team)
        .filter(dataset=dataset)
        .annotate(side=Least("blob__width", "blob__height"))
        .aggregate(
            all_pictures=Count("id"),
            trained_with=Count("id", filter=included),
            without_caption=Count("id", filter=included & Q(caption="")),
            small=Count("id", filter=included & Q(side__lt=TRAINING_SIDE)),
        )
    )
    return DatasetHealth(
        pictures=counts["all_pictures"],
        included=counts["trained_with"],
        excluded=counts["all_pictures"] - counts["trained_with"],
        without_caption=counts["without_caption"],
        small=counts["small"],
    )


FILTERS = ("all", "uncaptioned", "small", "excluded")


def items(actor: Actor, dataset: Dataset, *, show: str = "all", search: str = "") -> QuerySet[Item]:
    """Return the pictures of a dataset in the order they came, narrowed by one of FILTERS and by words."""
    require(actor, Can.DATASET_VIEW)
    rows = Item.objects.for_team(actor.team).filter(dataset=dataset).select_related("blob").order_by("id")
    if show == "uncaptioned":
        rows = rows.filter(excluded=False, caption="")
    elif show == "small":
        rows = rows.annotate(side=Least("blob__width", "blob__height")).filter(
            excluded=False, side__lt=TRAINING_SIDE
        )
    elif show == "excluded":
        rows = rows.filter(excluded=True)
    if search:
        rows = rows.filter(Q(caption__icontains=search) | Q(filename__icontains=search))
    return rows


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Hold one page of the grid and the uid after which the next begins (empty at the end)."""

    items: list[Item]
    next_after: str


def item_page(
    actor: Actor, dataset: Dataset, *, after: str = "", show: str = "all", search: str = ""
) -> ItemPage:
    """Return the next pictures after the one with uid `after`: by key, so page 100 costs what page 1 costs."""
    rows = items(actor, dataset, show=show, search=search)
    if after:
        start = Item.objects.for_team(actor.team).filter(dataset=dataset, uid=after).values("id")
        rows = rows.filter(id__gt=Subquery(start))
    found = list(rows[: PAGE_SIZE + 1])
    more = len(found) > PAGE_SIZE
    return ItemPage(found[:PAGE_SIZE], found[PAGE_SIZE - 1].uid if more else "")


@dataclass(frozen=True, slots=True)
class ItemWithNeighbours:
    """Hold a picture, the uids beside it in the same narrowing, and its place (from 1) of how many."""

    item: Item
    previous: str
    next: str
    place: int
    total: int


def item_with_neighbours(
    actor: Actor, uid: str, *, show: str = "all", search: str = ""
) -> ItemWithNeighbours:
    """Return a picture for the caption editor; raise NotFound."""
    require(actor, Can.DATASET_VIEW)
    pictures = Item.objects.for_team(actor.team).select_related("blob", "dataset", "dataset__project")
    item = _one(seen_by(actor, pictures, "dataset__project"), uid)
    rows = items(actor, item.dataset, show=show, search=search)
    before, after = rows.filter(id__lt=item.id), rows.filter(id__gt=item.id)
    place = before.count() + 1
    return ItemWithNeighbours(
        item=item,
        previous=before.order_by("-id").values_list("uid", flat=True).first() or "",
        next=after.values_list("uid", flat=True).first() or "",
        place=place,
        # The picture counts even if it was changed and would not be shown any more.
        total=place + after.count(),
    )


def versions(actor: Actor, dataset: Dataset) -> QuerySet[DatasetVersion]:
    """Return the frozen versions of a dataset, the newest first."""
    require(actor, Can.DATASET_VIEW)
    return DatasetVersion.objects.for_team(actor.team).filter(dataset=dataset).order_by("-number")


def dataset_versions(actor: Actor) -> QuerySet[DatasetVersion]:
    """Return all frozen versions of the team with their datasets."""
    require(actor, Can.DATASET_VIEW)
    rows = DatasetVersion.objects.for_team(actor.team).select_related("dataset", "dataset__project")
    return seen_by(actor, rows, "dataset__project")


def own_unfinished_uploads(actor: Actor, dataset: Dataset) -> QuerySet[Upload]:
    """Return the actor's own uploads to a dataset whose bytes have not all come and still may, the oldest first."""
    require(actor, Can.DATASET_VIEW)
    return (
        Upload.objects.for_team(actor.team)
        .filter(dataset=dataset, created_by=actor.user, state=UploadState.RECEIVING)
        .filter(expires_at__gt=timezone.now())
        .order_by("id")
    )


def uploads_in_check(actor: Actor, dataset: Dataset) -> QuerySet[Upload]:
    """Return anybody's uploads to a dataset whose files are looked at, or wait for it, the oldest first."""
    return uploads(actor).filter(dataset=dataset, state=UploadState.PROCESSING).order_by("id")


def uploads(actor: Actor) -> QuerySet[Upload]:
    """Return the team's uploads with the result of each file."""
    require(actor, Can.DATASET_VIEW)
    results = UploadedFile.objects.for_team(actor.team).select_related("item").order_by("position")
    return (
        seen_by(actor, Upload.objects.for_team(actor.team), "dataset__project")
        .select_related("dataset")
        .prefetch_related(Prefetch("files", queryset=results))
    )


# Results that need no word.
WENT_WELL = ("", "caption_applied", "captions_applied")


def upload_problems(actor: Actor, dataset: Dataset) -> QuerySet[UploadedFile]:
    """Return the files of a dataset's uploads that need a word (refused, left out, already there), newest first."""
    require(actor, Can.DATASET_VIEW)
    return (
        UploadedFile.objects.for_team(actor.team)
        .filter(upload__dataset=dataset)
        .exclude(code__in=[*WENT_WELL, "small"])
        .select_related("upload")
        .order_by("-id")
    )


def lora_models(actor: Actor, project: Project | None = None) -> QuerySet[LoraModel]:
    """Return models, the last changed first, with their newest version's number, words and sample pictures."""
    require(actor, Can.MODEL_VIEW)
    team = actor.team
    newest = LoraVersion.objects.for_team(team).filter(model=OuterRef("pk")).order_by("-number")
    drawn = LoraSample.objects.for_team(team).filter(version__model=OuterRef("pk"), with_lora=True)
    rows = seen_by(actor, LoraModel.objects.for_team(team).select_related("project"))
    if project is not None:
        rows = rows.filter(project=project)
    return rows.annotate(
        version_count=_count(LoraVersion.objects.for_team(team), "model"),
        newest_number=Subquery(newest.values("number")[:1]),
        newest_at=Subquery(newest.values("created_at")[:1]),
        trigger_words=Subquery(newest.values("trigger_words")[:1]),
        base_model=Subquery(newest.values("base_model")[:1]),
        cover=ArraySubquery(
            drawn.order_by("-version__number", "-step", "prompt_index").values("blob__uid")[:COVER_PICTURES]
        ),
    ).order_by(F("newest_at").desc(nulls_last=True), "-id")


def lora_model(actor: Actor, uid: str) -> LoraModel:
    """Return a model of the actor's team with its project; raise NotFound."""
    require(actor, Can.MODEL_VIEW)
    return _one(seen_by(actor, LoraModel.objects.for_team(actor.team).select_related("project")), uid)


def lora_versions(actor: Actor, model: LoraModel | None = None) -> QuerySet[LoraVersion]:
    """Return versions with files and samples, the newest first, in three queries."""
    require(actor, Can.MODEL_VIEW)
    team = actor.team
    rows = LoraVersion.objects.for_team(team).select_related(
        "model", "model__project", "dataset_version", "dataset_version__dataset", "created_by"
    )
    rows = seen_by(actor, rows, "model__project")
    if model is not None:
        rows = rows.filter(model=model)
    return rows.prefetch_related(
        Prefetch("files", queryset=LoraFile.objects.for_team(team).select_related("blob")),
        Prefetch("samples", queryset=LoraSample.objects.for_team(team).select_related("blob")),
    ).order_by("-id")


def lora_version(actor: Actor, uid: str) -> LoraVersion:
    """Return a version of the actor's team with its model; raise NotFound."""
    require(actor, Can.MODEL_VIEW)
    rows = LoraVersion.objects.for_team(actor.team).select_related("model")
    return _one(seen_by(actor, rows, "model__project"), uid)


def lora_file(actor: Actor, uid: str) -> LoraFile:
    """Return a downloadable file; raise NotFound, or PermissionDenied for who may not take weights out."""
    require(actor, Can.WEIGHTS_DOWNLOAD)
    rows = LoraFile.objects.for_team(actor.team).select_related("blob__team", "version__model")
    return _one(seen_by(actor, rows, "version__model__project"), uid)


def picture_blob(actor: Actor, uid: str) -> Blob:
    """Return the stored bytes of a picture, never of weights; raise NotFound."""
    require(actor, Can.PROJECT_VIEW)
    rows = Blob.objects.for_team(actor.team).select_related("team").filter(content_type__startswith="image/")
    return _one(seen_blobs(actor, rows), uid)


def _one(rows: QuerySet[Any], uid: str) -> Any:
    row = rows.filter(uid=uid).first()
    if row is None:
        raise NotFound
    return row
