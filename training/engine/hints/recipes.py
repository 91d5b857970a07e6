# ruff: noqa: E501 - a table reads better with its patterns whole
"""Failures that a setting of the recipe causes and cures."""

from __future__ import annotations

from training.engine.errors import ExitCode
from training.engine.fields import gettext_noop as _
from training.engine.hints.hint import Case, Hint, Patch


def lower_rate(case: Case) -> Patch | None:
    """Return a quarter of the learning rate."""
    assert case.spec is not None
    return {"/training/learning_rate": case.spec.training.learning_rate / 4}


def round_resolution(case: Case) -> Patch | None:
    """Return the nearest multiple of 64, which every family can cut into tokens."""
    assert case.spec is not None
    resolution = case.spec.training.resolution
    rounded = max(64, round(resolution / 64) * 64)
    return {"/training/resolution": rounded} if rounded != resolution else None


def other_layers(case: Case) -> Patch | None:
    """Return the layers that every family has, unless they are already chosen."""
    assert case.spec is not None
    return {"/method/targets": "attn"} if case.spec.method.targets != "attn" else None


HINTS: tuple[Hint, ...] = (
    Hint("diverged", r"diverged|loss is nan|not finite", "user", ExitCode.CONFIGURATION,
         _("Training diverged: the numbers grew without bound."),
         _("Lower the learning rate to a quarter and start again."), None, lower_rate),
    Hint("fp8_unsupported", r"Float8|fp8.{0,40}(capability|support)|scaled_mm.{0,60}capability", "user", ExitCode.CONFIGURATION,
         _("This device cannot compute in fp8."), _("Choose int8 or bf16 for the frozen weights.")),
    Hint("bf16_unsupported", r"bfloat16.*(not supported|not implemented)|not implemented for 'BFloat16'|does not support bfloat16", "user",
         ExitCode.CONFIGURATION, _("This device cannot compute in bf16."), _("Train in fp32."),
         {"/training/precision": "fp32"}),
    Hint("number_formats_mixed", r"must have the same dtype|expected scalar type|Input type .* should be the same|expected m1 and m2 to have the same dtype", "platform",
         ExitCode.INTERNAL, _("Two parts of the model compute in different number formats."),
         _("Train in fp32; if that helps, report it as a fault of this model family."), {"/training/precision": "fp32"}),
    Hint("layers_unsupported", r"Target module .* is not supported|Currently, only the following modules are supported", "user",
         ExitCode.CONFIGURATION, _("A chosen layer is of a kind that cannot carry a LoRA."), _("Choose the set 'attn'."),
         {"/method/targets": "attn"}, other_layers),
    Hint("no_target_modules", r"[Tt]arget modules? .*not found|NoMatchingPeftModule|no layer of the", "user", ExitCode.CONFIGURATION,
         _("No layer of the base model matches the chosen set of layers."), _("Choose the set 'attn'."),
         {"/method/targets": "attn"}, other_layers),
    Hint("nothing_to_train", r"does not require grad|None of the inputs have requires_grad|optimizer got an empty parameter list", "platform",
         ExitCode.INTERNAL, _("Nothing was left to train: no gradient reaches the LoRA."),
         _("Choose the set 'attn'; if it stays, the method does not fit this model family."), {"/method/targets": "attn"}, other_layers),
    Hint("resolution_unfit", r"The size of tensor a .* must match the size of tensor b|Sizes of tensors must match except in dimension|shape '.*' is invalid for input of size|not divisible by (the )?(patch|8|16|32|64)|have to be divisible by",
         "user", ExitCode.CONFIGURATION, _("The base model cannot cut pictures of this size into tokens."),
         _("Choose a resolution that is a multiple of 64."), None, round_resolution),
)  # fmt: skip
