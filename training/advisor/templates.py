"""The four templates: what a person wants to teach, and how many pictures that takes."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from core.errors import DomainError


class TemplateKey(models.TextChoices):
    CHARACTER = "character", _("Character")
    STYLE = "style", _("Art style")
    PRODUCT = "product", _("Product")
    CONCEPT = "concept", _("Concept")


@dataclass(frozen=True, slots=True)
class Template:
    """Describe one template: the picture counts it was made for and how to caption them."""

    key: TemplateKey
    icon: str
    summary: str | Promise
    captions: str | Promise
    fewest: int
    ideal: tuple[int, int]
    most: int
    # Drawn on the way when the base model offers no prompts of its own.
    prompts: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.key.label)


TEMPLATES: dict[str, Template] = {
    template.key.value: template
    for template in (
        Template(
            TemplateKey.CHARACTER,
            "user-round",
            _("One person, animal or figure that stays recognisable in new scenes."),
            _("Describe what varies: clothes, pose, background, light. Leave the face to the trigger word."),
            8,
            (15, 30),
            60,
            (
                "{trigger}, portrait, looking at the viewer",
                "{trigger}, full body, walking in a city street",
                "{trigger}, sitting at a table, reading a book",
            ),
        ),
        Template(
            TemplateKey.STYLE,
            "palette",
            _("The hand of an artist or the look of a series, for any subject."),
            _("Describe everything that is in the picture, and nothing about how it is drawn."),
            15,
            (30, 80),
            200,
            (
                "a house by a lake, {trigger}",
                "a cat on a windowsill, {trigger}",
                "a portrait of a woman, {trigger}",
            ),
        ),
        Template(
            TemplateKey.PRODUCT,
            "package",
            _("One object with its exact shape, material and logo."),
            _("Name the kind of object, the background and the angle; write out any text on it."),
            6,
            (12, 25),
            50,
            (
                "{trigger} on a white table, studio light",
                "{trigger} on a rock at the sea, evening sun",
                "a hand holding {trigger}",
            ),
        ),
        Template(
            TemplateKey.CONCEPT,
            "shapes",
            _("A pose, a garment, a composition: something that people or things can have."),
            _("Describe person and scene, and name the concept with the trigger word."),
            15,
            (30, 60),
            150,
            (
                "{trigger}, a woman in a garden",
                "{trigger}, an old man in a workshop",
                "{trigger}, seen from the side",
            ),
        ),
    )
}


def template_for(key: str) -> Template:
    """Return the template with `key`; raise DomainError naming the known ones."""
    try:
        return TEMPLATES[key]
    except KeyError:
        raise DomainError(
            "unknown_template",
            _("There is no template “%(key)s”. Known templates: %(known)s.")
            % {"key": key, "known": ", ".join(TEMPLATES)},
            pointer="template",
        ) from None
