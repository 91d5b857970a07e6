"""Rows for tests, made the way the services would leave them."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import factory
from PIL import Image

from accounts.actor import Actor, member_actor
from accounts.models import Membership, Team, User
from accounts.roles import Role


class UserFactory(factory.django.DjangoModelFactory[User]):
    class Meta:
        model = User
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"person{n}@example.org")
    name = factory.Sequence(lambda n: f"Person {n}")
    password = factory.django.Password("correct horse")


class TeamFactory(factory.django.DjangoModelFactory[Team]):
    class Meta:
        model = Team

    name = factory.Sequence(lambda n: f"Team {n}")
    slug = factory.Sequence(lambda n: f"team-{n}")


def make_member(team: Team, role: Role, **user: Any) -> Actor:
    """Make a person with `role` in `team` and return their actor."""
    person = UserFactory(**user)
    Membership.objects.create(team=team, user=person, role=role)
    return member_actor(team, person, role)


def png_bytes(size: tuple[int, int] = (64, 48), seed: str = "a") -> bytes:
    """Return a real PNG whose colours depend on `seed`."""
    digest = hashlib.sha256(seed.encode()).digest()
    picture = Image.new("RGB", size, tuple(digest[:3]))
    picture.paste(tuple(digest[3:6]), (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
