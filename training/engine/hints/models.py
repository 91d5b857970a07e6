# ruff: noqa: E501 - a table reads better with its patterns whole
"""Failures of base models, their parts, and the hub they come from."""

from __future__ import annotations

import re

from training.engine.errors import ExitCode
from training.engine.fields import gettext_noop as _
from training.engine.hints.hint import Case, Hint, Patch
from training.engine.registry import family_names

WIDTHS = {"768": "sd", "1024": "sd", "2048": "sdxl"}
"""Width of the text that a UNet's attention reads, as a size mismatch tells it: CLIP L, OpenCLIP H, both of SDXL."""


def family_by_width(case: Case) -> Patch | None:
    """Return the family whose text is as wide as the weights in the file are."""
    assert case.spec is not None
    found = re.search(r"(?:with|param with) shape torch\.Size\(\[\d+, (\d+)\]\) from checkpoint", case.text)
    family = WIDTHS.get(found[1]) if found else None
    if family is None or family == case.spec.base_model.family or family not in family_names():
        return None
    return {"/base_model/family": family}


HINTS: tuple[Hint, ...] = (
    Hint("lora_of_another_base", r"Invalid (LoRA|adapter) checkpoint|size mismatch for .*lora_[AB]|saved adapter has other layers", "user",
         ExitCode.CONFIGURATION, _("The LoRA or the saved state belongs to another base model or another set of layers."),
         _("Use it with the base model and the layers that it was trained with, or start anew.")),
    Hint("wrong_family", r"size mismatch for|Cannot load .* because .* expected shape|mat1 and mat2 shapes cannot be multiplied|ignored_unexpected_keys",
         "user", ExitCode.CONFIGURATION, _("The base model has another architecture than the chosen family."),
         _("Choose the family that belongs to this base model."), None, family_by_width),
    Hint("not_weights", r"header too (large|small)|HeaderToo(Large|Small)|invalid header|InvalidHeader|git-lfs", "platform",
         ExitCode.DATA, _("A weight file holds no weights: it is a Git LFS pointer or a saved web page."),
         _("Download the file itself (git lfs pull, or the download button), and install the base model again."),
         kinds=("SafetensorError", "OSError", "ValueError", "RuntimeError")),
    Hint("base_model_damaged", r"SafetensorError: (?!Error while serializing)|incomplete metadata|MetadataIncompleteBuffer|file not fully covered|PytorchStreamReader failed|Unable to load weights from checkpoint file",
         "platform", ExitCode.DATA, _("A weight file is damaged or cut short."), _("Install the base model again.")),
    Hint("weights_incomplete", r"files named .*-of-\d+|is an index of shards|model\.safetensors\.index\.json", "platform", ExitCode.DATA,
         _("The base model's weights lie in several files, and some of them are missing."),
         _("Download the missing files, and install the base model again.")),
    Hint("variant_missing", r"variant=|no file named \S+\.fp16\.", "user", ExitCode.CONFIGURATION,
         _("The base model has no weights of the wanted variant (fp16)."),
         _("Install the base model with its full weights, or with all of its fp16 files.")),
    Hint("base_model_gated", r"GatedRepoError|Access to model .* is restricted|gated repo|40[13] (Client Error|Forbidden|Unauthorized)",
         "user", ExitCode.CONFIGURATION, _("The base model asks for a licence to be accepted before it can be downloaded."),
         _("Accept the licence on the model's page, and give a token of that account in HF_TOKEN.")),
    Hint("hub_busy", r"429 (Client Error|Too Many Requests)|Too Many Requests|50[0234] Server Error", "platform", ExitCode.INTERNAL,
         _("The model hub refuses or fails for the moment."), _("Wait some minutes and try again.")),
    Hint("base_model_not_found", r"RepositoryNotFoundError|RevisionNotFoundError|EntryNotFoundError: 404|404 Client Error|is not a valid model identifier|does not exist on the Hub",
         "user", ExitCode.CONFIGURATION, _("There is no such model on the hub, or it is private."),
         _("Check the spelling of owner/name; for a private model give a token in HF_TOKEN.")),
    Hint("hub_unreachable", r"couldn't connect to|LocalEntryNotFoundError|OfflineModeIsEnabled|outgoing traffic has been disabled|Max retries exceeded|Name or service not known|Temporary failure in name resolution",
         "user", ExitCode.CONFIGURATION,
         _("Something would have to be downloaded, and the hub cannot be reached: a part of the base model is missing, or its path is wrong."),
         _("Check the path of the base model; connect the worker to the network, or copy the model's whole folder to it.")),
    Hint("remote_code", r"trust_remote_code|requires you to execute the", "user", ExitCode.CONFIGURATION,
         _("The base model brings program code of its own, which is never run."),
         _("Use a version of the model in diffusers layout that needs no code of its own.")),
    Hint("model_too_new", r"does not recognize this architecture|Unrecognized (model|configuration class)|module '?(diffusers|transformers)'? has no attribute|has no attribute '\w*(Transformer|Pipeline|Autoencoder)\w*'",
         "platform", ExitCode.INTERNAL, _("The base model needs a newer version of diffusers or transformers."),
         _("Update the worker's requirements, or choose another base model.")),
    Hint("tokenizer_library_missing", r"requires the (SentencePiece|protobuf|tiktoken|ftfy) library|No module named '(sentencepiece|google\.protobuf|tiktoken|ftfy)'|Converting from (SentencePiece|Tiktoken) failed",
         "platform", ExitCode.INTERNAL, _("A library that reads the base model's tokenizer is not installed."),
         _("Install sentencepiece and protobuf on the worker.")),
    Hint("tokenizer_missing", r"Can't load tokenizer|Couldn't instantiate the backend tokenizer|(tokenizer\.json|tokenizer_config\.json|vocab\.json|merges\.txt|spiece\.model|tokenizer\.model)",
         "user", ExitCode.CONFIGURATION, _("The base model's tokenizer is missing or incomplete."),
         _("Copy the tokenizer folders of the original model beside its other parts, and install it again.")),
    Hint("tokenizer_mismatch", r"index out of range in self|srcIndex < srcSelectDimSize|indexSelect(Large|Small)Index", "user",
         ExitCode.CONFIGURATION, _("The tokenizer knows words that the text encoder does not: they belong to different models."),
         _("Install the base model again with the tokenizer that came with its text encoder.")),
    Hint("pickle_refused", r"(does not appear to have|no file named|Could not find).*(safetensors|\.bin)|\.bin\b.*safetensors|\.ckpt|weights_only|Unsupported global",
         "user", ExitCode.CONFIGURATION,
         _("The base model has no safetensors weights; pickled weights are never loaded."),
         _("Convert the model to safetensors and install it again.")),
    Hint("base_model_config", r"model_index\.json|scheduler_config\.json|config\.json|not a valid JSON file", "user", ExitCode.CONFIGURATION,
         _("A configuration file of the base model is missing or wrong."),
         _("Install the base model again in diffusers layout.")),
)  # fmt: skip
