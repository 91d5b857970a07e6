"""A recipe file without sections: each setting under its own name, or under the one that other trainers gave it.

    train_data_dir: pictures
    base_model: models/stable-diffusion
    lora_rank: 16

Both ways of writing may be mixed in a file. Only files are read so: what comes from elsewhere has sections
(``RunSpec.from_dict``). Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from training.engine.parsing import SpecError
from training.engine.spec import FIELDS, RunSpec

_SECTIONS = frozenset(field.name for field in dataclasses.fields(RunSpec) if "section" in field.metadata)
# Sections of which every name says by itself what it means.
_PLAIN = ("", "/training")

NAMES: dict[str, str] = {
    **{pointer.rpartition("/")[2]: pointer for pointer in FIELDS if pointer.rpartition("/")[0] in _PLAIN},
    **dict.fromkeys(("base_model", "model", "model_name_or_path", "pretrained_model_name_or_path"), "/base_model/path"),
    **dict.fromkeys(("model_family", "family"), "/base_model/family"),
    "quantise": "/base_model/quantise",
    **dict.fromkeys(("train_data_dir", "instance_data_dir", "dataset_dir", "image_folder"), "/dataset/folder"),
    **dict.fromkeys(("reg_data_dir", "class_data_dir"), "/regularisation/folder"),
    "prior_loss_weight": "/regularisation/weight",
    "class_prompt": "/prior/prompt",
    "num_class_images": "/prior/count",
    "trigger_word": "/trigger",
    "caption_template": "/captions/template",
    **dict.fromkeys(("shuffle_tags", "shuffle_caption"), "/captions/shuffle_tags"),
    **dict.fromkeys(("keep_tags", "keep_tokens"), "/captions/keep_tags"),
    "tag_dropout": "/captions/tag_dropout",
    "caption_dropout_rate": "/training/caption_dropout",
    **dict.fromkeys(("lora_rank", "rank", "network_dim"), "/method/rank"),
    **dict.fromkeys(("lora_alpha", "alpha", "network_alpha"), "/method/alpha"),
    "method": "/method/type",
    "targets": "/method/targets",
    "train_text_encoder": "/method/text_encoder",
    "train_batch_size": "/training/batch_size",
    "gradient_accumulation_steps": "/training/gradient_accumulation",
    **dict.fromkeys(("num_epochs", "num_train_epochs", "max_train_epochs"), "/training/epochs"),
    **dict.fromkeys(("max_steps", "max_train_steps"), "/training/steps"),
    "lr": "/training/learning_rate",
    "text_encoder_lr": "/training/text_encoder_learning_rate",
    "lr_scheduler": "/training/schedule",
    "lr_warmup_steps": "/training/warmup_steps",
    "flip_aug": "/training/flip",
    **dict.fromkeys(("sample_prompts", "validation_prompts"), "/sampling/prompts"),
    **dict.fromkeys(("sample_steps", "sample_every_n_steps"), "/sampling/every_steps"),
    **dict.fromkeys(("sample_epochs", "sample_every_n_epochs"), "/sampling/every_epochs"),
    **dict.fromkeys(("save_steps", "save_every_n_steps", "checkpointing_steps"), "/checkpoint/every_steps"),
    **dict.fromkeys(("save_epochs", "save_every_n_epochs"), "/checkpoint/every_epochs"),
    **dict.fromkeys(("save_total_limit", "checkpoints_total_limit"), "/checkpoint/keep"),
    "output_dir": "/run_dir",
    "output_name": "/name",
}  # fmt: skip
"""Pointer of the setting that a name outside of the sections means."""


def in_sections(data: Any, errors: list[SpecError]) -> Any:
    """Return what a file holds with each setting in its section; append what has no place to ``errors``.

    A recipe that uses such names and has no name is called after its output folder, else after its trigger word.
    """
    if not isinstance(data, dict):
        return data
    found: dict[str, Any] = {
        key: dict(value) if isinstance(value, Mapping) else value
        for key, value in data.items()
        if key in _SECTIONS and not _is_short(key, value)
    }
    said_as: dict[str, str] = {}
    for key, value in data.items():
        if key in found:
            continue
        pointer = NAMES.get(key) if isinstance(key, str) else None
        if pointer is None:
            errors.append(_unknown(str(key)[:100]))
            continue
        section, _, name = pointer.strip("/").rpartition("/")
        place = found.setdefault(section, {}) if section else found
        if pointer in said_as or not isinstance(place, dict) or name in place:
            other = said_as.get(pointer, pointer.strip("/").replace("/", "."))
            errors.append(SpecError(f"/{key}", "conflict", f"{key!r} and {other!r} are the same setting"))
            continue
        place[name] = value
        said_as[pointer] = key
    if any(key != pointer.strip("/") for pointer, key in said_as.items()):
        _name(found)
    return found


def _is_short(key: str, value: Any) -> bool:
    """Tell whether the name of a section stands for its one setting, as in ``base_model: a folder``."""
    return key in NAMES and isinstance(value, str)


def _unknown(key: str) -> SpecError:
    known = [*_SECTIONS, *NAMES]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    usual = (
        "name, base_model, train_data_dir, trigger, lora_rank, batch_size, epochs, learning_rate, output_dir"
    )
    advice = f"did you mean {near[0]!r}?" if near else f"known names are: {usual}, ..."
    return SpecError(f"/{key}", "unknown_key", f"unknown setting {key!r}; {advice}")


def _name(data: dict[str, Any]) -> None:
    folder, trigger = data.get("run_dir"), data.get("trigger")
    name = (isinstance(folder, str) and PurePath(folder).name) or trigger
    if name and "name" not in data:
        data["name"] = name
