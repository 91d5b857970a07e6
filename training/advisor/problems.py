"""What speaks against starting a run as it is set up, each with the change that mends it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from training.advisor.recommend import Advice, Pictures
from training.advisor.templates import Template, TemplateKey
from training.engine.spec import RunSpec

Level = Literal["warning", "error"]
_VIEWS_TOO_MANY = 600
_VIEWS_TOO_FEW = 8
_LONG_SECONDS = 2 * 3600


@dataclass(frozen=True, slots=True)
class Fix:
    """Hold a button: its label and the settings (by JSON pointer) it applies."""

    label: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Say what may go wrong and how to mend it; `error` stops the start, `warning` does not."""

    code: str
    level: Level
    message: str
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """Hold what a run needs: memory against what the largest worker has (MB, 0 where not known), and its time."""

    needed_mb: int
    device_mb: int
    seconds: int = 0


def find_problems(
    spec: RunSpec,
    advice: dict[str, Advice],
    template: Template,
    pictures: Pictures,
    needs: Needs,
    views: int,
) -> list[Problem]:
    """Return what is wrong with a valid recipe, the worst first. `views`: how often each picture is seen."""
    found = [
        *_memory(spec, needs),
        *_time(needs),
        *_pictures(template, pictures),
        *_captions(spec, template, pictures),
        *_length(advice, views),
        *_learning_rate(spec, advice),
    ]
    return sorted(found, key=lambda problem: problem.level != "error")


def _memory(spec: RunSpec, needs: Needs) -> list[Problem]:
    if not (needs.needed_mb and needs.device_mb) or needs.needed_mb <= needs.device_mb:
        return []
    batch, accumulation = spec.training.batch_size, spec.training.gradient_accumulation
    if batch > 1:
        smaller = max(1, batch // 2)
        fix = Fix(
            _("Use batch size %(n)s") % {"n": smaller},
            {
                "/training/batch_size": smaller,
                "/training/gradient_accumulation": accumulation * (batch // smaller),
            },
        )
    elif spec.training.gradient_checkpointing in ("off", "blocks"):
        fix = Fix(_("Trade time for memory"), {"/training/gradient_checkpointing": "all"})
    else:
        smaller = max(64, spec.training.resolution // 2 // 64 * 64)
        fix = Fix(_("Train at %(n)s pixels") % {"n": smaller}, {"/training/resolution": smaller})
    return [
        Problem(
            "memory",
            "warning",
            _("This needs about %(needed)s GB of memory and the largest worker has %(has)s GB.")
            % {"needed": _gb(needs.needed_mb), "has": _gb(needs.device_mb)},
            fix,
        )
    ]


def _time(needs: Needs) -> list[Problem]:
    if needs.device_mb or needs.seconds < _LONG_SECONDS:
        return []
    message = _("No worker has a graphics card. On a processor this takes about %(n)s hours.")
    return [Problem("slow", "warning", message % {"n": round(needs.seconds / 3600)})]


def _pictures(template: Template, pictures: Pictures) -> list[Problem]:
    if pictures.count >= template.fewest:
        return []
    return [
        Problem(
            "few_pictures",
            "warning",
            ngettext(
                "One picture is little for “%(template)s”: it works best with %(low)s to %(high)s.",
                "%(n)s pictures are few for “%(template)s”: it works best with %(low)s to %(high)s.",
                pictures.count,
            )
            % {
                "n": pictures.count,
                "template": template.name,
                "low": template.ideal[0],
                "high": template.ideal[1],
            },
        )
    ]


def _captions(spec: RunSpec, template: Template, pictures: Pictures) -> list[Problem]:
    found = []
    missing = pictures.count - pictures.captioned
    if not spec.trigger and missing == pictures.count:
        found.append(
            Problem(
                "no_words",
                "warning",
                _(
                    "There is no trigger word and no picture has a caption: no prompt will call what is learned."
                ),
            )
        )
    elif missing:
        found.append(
            Problem(
                "captions_missing",
                "warning",
                ngettext(
                    "%(n)s picture has no caption: it is trained with the trigger word alone.",
                    "%(n)s pictures have no caption: they are trained with the trigger word alone.",
                    missing,
                )
                % {"n": missing},
            )
        )
    if not spec.trigger and template.key != TemplateKey.STYLE and missing < pictures.count:
        found.append(
            Problem(
                "no_trigger",
                "warning",
                _("Without a trigger word you cannot call “%(template)s” in a prompt.")
                % {"template": template.name},
            )
        )
    return found


def _length(advice: dict[str, Advice], views: int) -> list[Problem]:
    recommended = advice["/training/steps"].value
    fix = Fix(_("Use %(n)s steps") % {"n": recommended}, {"/training/steps": recommended})
    if views > _VIEWS_TOO_MANY:
        message = _(
            "Each picture would be seen %(n)s times: the LoRA will copy the pictures instead of learning."
        )
    elif views < _VIEWS_TOO_FEW:
        message = _("Each picture would be seen only %(n)s times: hardly anything is learned.")
    else:
        return []
    return [Problem("length", "warning", message % {"n": views}, fix)]


def _learning_rate(spec: RunSpec, advice: dict[str, Advice]) -> list[Problem]:
    rate, recommended = spec.training.learning_rate, advice["/training/learning_rate"].value
    fix = Fix(_("Use %(rate)s") % {"rate": f"{recommended:g}"}, {"/training/learning_rate": recommended})
    if rate >= 5 * recommended:
        message = _("The learning rate is %(n)s times the usual one: pictures often break.")
        return [Problem("learning_rate", "warning", message % {"n": round(rate / recommended)}, fix)]
    if rate <= recommended / 20:
        message = _("The learning rate is so low that hardly anything will change.")
        return [Problem("learning_rate", "warning", message, fix)]
    return []


def _gb(mb: int) -> str:
    return f"{mb / 1024:.1f}".rstrip("0").rstrip(".")
