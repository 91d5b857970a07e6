"""Say in the reader's language why a training failed and what to do. The engine's own words stay as details."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from training.engine.hints import HINTS
from training.engine.spec import FIELDS
from training.models import TrainingJob

_AGAIN = gettext_lazy("Start it again. If it fails once more, tell whoever runs this installation.")

# What the engine's list of known failures does not have: cause and advice by code.
_CAUSES: dict[str, tuple[Promise, Promise]] = {
    "worker_lost": (gettext_lazy("The machine that ran this training went silent several times."), _AGAIN),
    "engine_killed": (
        gettext_lazy(
            "The training process was ended from outside several times, most often for want of memory."
        ),
        gettext_lazy("Start it again with a smaller batch size, or on a machine with more memory."),
    ),
    "engine_crashed": (gettext_lazy("The training process ended unexpectedly several times."), _AGAIN),
    "engine_interrupted": (gettext_lazy("The training process was interrupted several times."), _AGAIN),
    "engine_stalled": (gettext_lazy("The training made no progress for a long time."), _AGAIN),
    "engine_not_ready": (gettext_lazy("The training engine could not be started."), _AGAIN),
    "supervisor_failed": (gettext_lazy("Something went wrong on our side."), _AGAIN),
    "internal": (gettext_lazy("Something went wrong on our side."), _AGAIN),
    "storage_damaged": (
        gettext_lazy("A stored picture is not what was uploaded."),
        gettext_lazy("Upload the pictures again and freeze a new version of the dataset."),
    ),
    "storage_unavailable": (gettext_lazy("The pictures could not be fetched from storage."), _AGAIN),
    "export_damaged": (gettext_lazy("The finished file changed on its way into storage."), _AGAIN),
    "export_empty": (
        gettext_lazy("The training ended before it had learned anything."),
        gettext_lazy("Let it run for more steps, or raise the learning rate."),
    ),
    "no_images": (
        gettext_lazy("There are no pictures to train on."),
        gettext_lazy("Add pictures to the dataset and freeze a new version."),
    ),
    "all_held_out": (
        gettext_lazy("Every picture is kept aside for measuring; none is left to train on."),
        gettext_lazy("Add pictures, or lower the held-out share."),
    ),
    "part_missing": (
        gettext_lazy("A model version that this order names was deleted meanwhile."),
        gettext_lazy("Order the pictures again without it."),
    ),
    "lora_of_another_base": (
        gettext_lazy("A LoRA of this order fits no layer of the base model."),
        gettext_lazy("Choose LoRAs that were trained on this base model."),
    ),
    "base_model_missing": (
        gettext_lazy("The base model is not installed on the machine that ran this training."),
        gettext_lazy("Choose another base model, or have this one installed."),
    ),
    "base_model_distilled": (
        gettext_lazy("The base model was made to draw in a few steps, and training it would undo that."),
        gettext_lazy("Choose the model that it was made from; the LoRA fits both."),
    ),
    "captioner_missing": (
        gettext_lazy("The captioner's model is not installed on the machine that ran this."),
        gettext_lazy("Choose another captioner, or have this one installed."),
    ),
    "captioner_damaged": (
        gettext_lazy("The captioner's model cannot be read."),
        gettext_lazy("Choose another captioner, or have this one installed again."),
    ),
    "extra_missing": (
        gettext_lazy("This training asks for a library that its worker does not have."),
        gettext_lazy(
            "Choose another optimizer or leave the base model as it is, or have the extra for GPUs installed."
        ),
    ),
    "recipe_changed": (
        gettext_lazy("The saved state belongs to another recipe or another version of the engine."),
        gettext_lazy("Start the training again from the beginning."),
    ),
}


@dataclass(frozen=True, slots=True)
class Change:
    """Hold one change of a setting that would help."""

    pointer: str
    label: str
    value: Any


@dataclass(frozen=True, slots=True)
class Explanation:
    """Hold cause, advice, the engine's own words, and the changes offered as a button."""

    cause: str
    advice: str
    details: str
    changes: list[Change]


def explain_failure(job: TrainingJob) -> Explanation:
    """Return why `job` failed and what helps, in the active language."""
    known = next((hint for hint in HINTS if hint.code == job.error_code), None)
    if job.error_code in _CAUSES:
        cause, advice = (str(text) for text in _CAUSES[job.error_code])
    elif known is not None:
        cause, advice = _(known.text), _(known.fix)
    else:
        cause = _(job.error_message) if job.error_message else _("Something went wrong on our side.")
        advice = _(job.error_hint) if job.error_hint else str(_AGAIN)
    changes = [
        Change(pointer, _(FIELDS[pointer].label) if pointer in FIELDS else pointer, value)
        for pointer, value in (job.error_patch or {}).items()
    ]
    return Explanation(cause, advice, "" if job.error_message == cause else job.error_message, changes)
