"""`manage.py seed_demo`: the demo team, its styles as datasets, the demo base model, a first training. Repeatable."""

from __future__ import annotations

import io
import json
import os
import secrets
import zipfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils.translation import gettext_noop

from accounts.access import actor_for
from accounts.actor import Actor
from accounts.models import Team, User
from accounts.services.teams import create_team
from projects.models import Dataset, Item, Project
from projects.services.datasets import create_dataset
from projects.services.intake import ingest
from projects.services.projects import create_project
from projects.services.uploads import receive_file
from projects.services.versions import freeze_dataset
from training.models import FoundationModel, TrainingJob
from training.services.foundation_models import offer_foundation_model
from training.services.jobs import create_job

EMAIL = "demo@lorafoundry.local"
TEAM = "demo"
PROJECT = "Icon styles"
# The first style that is there is trained at once: the one that keeps every drawing while its look changes.
FIRST_STYLES = ("pastel", "gameboy", "ink")
PROMPTS_DRAWN = 4
# Stored in English, shown in the reader's language.
DESCRIPTION = gettext_noop(
    "A small model that draws 48 things as icons, made to be trained on a laptop in minutes."
)


class Command(BaseCommand):
    help = "Make the demo team with datasets, the demo base model and a first training. Does nothing in production."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--no-training", action="store_true", help="start no training")

    def handle(self, *, no_training: bool = False, **options: Any) -> None:
        if settings.PRODUCTION:
            self.stderr.write("A production installation gets no demo team: its login would be known.")
            return
        actor = self._login()
        base = self._base_model()
        project = self._project(actor)
        styles = read_styles(settings.BASE_DIR / "demo" / "styles")
        for style in styles.values():
            self._dataset(actor, project, style)
        if base is None:
            self.stderr.write("demo/base is missing: no base model is offered, and nothing is trained.")
        elif styles and not no_training:
            self._first_training(actor, project, base, styles)

    # -- People -----------------------------------------------------------------------------------------------

    def _login(self) -> Actor:
        """Make the demo person and team; the password is new for each installation and kept in var/demo.json."""
        note = Path(settings.VAR_DIR) / "demo.json"
        password = _noted_password(note)
        with transaction.atomic():
            person = User.objects.filter(email=EMAIL).first()
            if person is None or not password:
                password = secrets.token_urlsafe(9)
            if person is None:
                person = User.objects.create_superuser(EMAIL, password, name="Demo")
            elif not person.check_password(password):
                person.set_password(password)
                person.save(update_fields=["password"])
            _verify_address(person)
            if not Team.objects.filter(slug=TEAM).exists():
                create_team(owner=person, name="Demo", slug=TEAM, is_demo=True)
        note.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as target:
            json.dump({"email": EMAIL, "password": password}, target)
        return actor_for(person, TEAM)

    # -- Things -----------------------------------------------------------------------------------------------

    def _base_model(self) -> FoundationModel | None:
        folder = Path(settings.BASE_MODELS_DIR) / "base"
        if not (folder / "model_index.json").exists():
            return None
        return offer_foundation_model(
            key="demo",
            folder=folder,
            path="base",
            name="Foundry Icons (demo)",
            family="sd",
            licence="Apache-2.0",
            description=DESCRIPTION,
            resolution=64,
            prompts=read_prompts(settings.BASE_DIR / "demo" / "prompts.json"),
            is_demo=True,
        )

    def _project(self, actor: Actor) -> Project:
        found: Project | None = Project.objects.for_team(actor.team).filter(name=PROJECT).first()
        return found or create_project(
            actor=actor, name=PROJECT, description="Three ways to draw the same icons, twenty pictures each."
        )

    def _dataset(self, actor: Actor, project: Project, style: dict[str, Any]) -> None:
        dataset = Dataset.objects.for_team(actor.team).filter(project=project, name=style["title"]).first()
        if dataset is None:
            dataset = create_dataset(actor=actor, project_uid=project.uid, name=style["title"])
        if Item.objects.for_team(actor.team).filter(dataset=dataset).exists():
            return
        archive = zip_pictures(style["folder"])
        upload = receive_file(
            actor=actor,
            dataset_uid=dataset.uid,
            filename=f"{style['key']}.zip",
            size=len(archive),
            source=io.BytesIO(archive),
        )
        ingest(upload)
        freeze_dataset(actor=actor, uid=dataset.uid)

    def _first_training(
        self, actor: Actor, project: Project, base: FoundationModel, styles: dict[str, dict[str, Any]]
    ) -> None:
        if TrainingJob.objects.for_team(actor.team).exists():
            return
        key = next((key for key in FIRST_STYLES if key in styles), next(iter(styles)))
        style = styles[key]
        dataset = Dataset.objects.for_team(actor.team).get(project=project, name=style["title"])
        create_job(
            actor=actor,
            dataset_version=freeze_dataset(actor=actor, uid=dataset.uid),
            foundation_model=base,
            template="style",
            name=f"{style['title']} icons",
            trigger=style["trigger"],
            prompts=style["prompts"][:PROMPTS_DRAWN],
        )


def read_styles(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what each style set says about itself, by key, with its folder."""
    styles: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/style.json")):
        style = json.loads(path.read_text(encoding="utf-8"))
        styles[style["key"]] = {**style, "folder": path.parent}
    return styles


def read_prompts(path: Path) -> list[str]:
    """Return the prompts to offer: the things that the demo base model draws best, with their articles."""
    try:
        first = json.loads(path.read_text(encoding="utf-8"))["first"]
    except FileNotFoundError:
        return []
    return [f"{'an' if word[0] in 'aeiou' else 'a'} {word}" for word in first]


def zip_pictures(folder: Path) -> bytes:
    """Return a zip of the pictures and captions of a folder, as a person would upload it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.iterdir()):
            if path.suffix in (".png", ".txt"):
                archive.write(path, path.name)
    return buffer.getvalue()


def _noted_password(note: Path) -> str:
    try:
        login = json.loads(note.read_text())
    except (OSError, ValueError):
        return ""
    return str(login.get("password", "")) if login.get("email") == EMAIL else ""


def _verify_address(person: User) -> None:
    from allauth.account.models import EmailAddress

    EmailAddress.objects.get_or_create(
        user=person, email=person.email, defaults={"verified": True, "primary": True}
    )
