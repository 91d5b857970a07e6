"""What a LoRA file says about itself: kohya's ``ss_*`` set, ModelSpec 1.0.1, and our own provenance.

Captions and tags are left out unless the user asked for them: they tell every reader what is in the pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime

from training.engine import ENGINE_VERSION
from training.engine.data.dataset import Dataset
from training.engine.families.base import ModelFamily, Parts
from training.engine.spec import MethodSpec, RunSpec

LYCORIS = {
    "dora": {"algo": "lora", "dora_wd": "True"},
    "loha": {"algo": "loha"},
    "lokr": {"algo": "lokr"},
}
"""Methods that kohya's trainer knows from LyCORIS alone, with its arguments."""


def build(
    spec: RunSpec, family: ModelFamily, parts: Parts, dataset: Dataset, *, base_sha256: str, step: int, precision: str,
    started: datetime, training_adapter_sha256: str | None = None,
) -> dict[str, str]:  # fmt: skip
    """Return all entries, strings only (sd-scripts train_network.py and ModelSpec name them)."""
    training, method = spec.training, spec.method
    epoch = -(-step // dataset.plan.steps_per_epoch)
    now = datetime.now(UTC)
    entries: dict[str, object] = {
        **_network(method),
        "ss_output_name": spec.name,
        "ss_sd_model_hash": base_sha256[:8],
        "ss_new_sd_model_hash": base_sha256,
        "ss_resolution": f"({training.resolution}, {training.resolution})",
        "ss_num_train_images": sum(dataset.bucket_samples.values()),
        "ss_num_batches_per_epoch": dataset.plan.steps_per_epoch * training.gradient_accumulation,
        "ss_batch_size_per_device": training.batch_size,
        "ss_gradient_accumulation_steps": training.gradient_accumulation,
        "ss_bucket_info": json.dumps({"buckets": {
            str(i): {"resolution": [int(v) for v in name.split("x")], "count": count}
            for i, (name, count) in enumerate(dataset.bucket_samples.items())
        }}),
        "ss_learning_rate": training.learning_rate,
        "ss_unet_lr": training.learning_rate,
        "ss_text_encoder_lr": training.text_encoder_rate if method.text_encoder else None,
        "ss_optimizer": training.optimizer,
        "ss_lr_scheduler": training.schedule,
        "ss_lr_warmup_steps": training.warmup_steps,
        "ss_max_train_steps": dataset.plan.total_steps,
        "ss_steps": step,
        "ss_epoch": epoch,
        "ss_num_epochs": dataset.plan.epochs,
        "ss_seed": training.seed,
        "ss_mixed_precision": "no" if precision == "fp32" else precision,
        "ss_min_snr_gamma": training.min_snr_gamma,
        "ss_noise_offset": training.noise_offset,
        "ss_caption_dropout_rate": training.caption_dropout,
        "ss_max_grad_norm": training.max_grad_norm,
        "ss_training_started_at": started.timestamp(),
        "ss_training_finished_at": now.timestamp(),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": spec.name,
        "modelspec.resolution": f"{training.resolution}x{training.resolution}",
        "modelspec.date": now.isoformat(timespec="seconds"),
        "modelspec.trigger_phrase": spec.trigger or None,
        "modelspec.author": spec.output.author or None,
        "modelspec.description": spec.output.description or None,
        "modelspec.license": spec.output.license or None,
        "lora_foundry.method": method.type,
        "lora_foundry.engine_version": ENGINE_VERSION,
        "lora_foundry.recipe_sha256": spec.recipe_sha256(),
        "lora_foundry.dataset_sha256": dataset.sha256,
        "lora_foundry.base_sha256": base_sha256,
        "lora_foundry.expert": parts.expert,
        "lora_foundry.training_adapter_sha256": training_adapter_sha256,
    }  # fmt: skip
    if spec.output.include_tag_frequencies:
        entries["ss_tag_frequency"] = json.dumps({spec.name: dataset.tag_frequencies()}, ensure_ascii=False)
    architecture: Mapping[str, object] = family.metadata(parts)
    if method.type == "textual_inversion":
        kind = architecture.get("modelspec.architecture")
        architecture = {
            **architecture,
            "modelspec.architecture": str(kind).replace("/lora", "/textual-inversion"),
        }
    return {key: str(value) for key, value in {**entries, **architecture}.items() if value is not None}


def _network(method: MethodSpec) -> dict[str, object]:
    """Return what kohya's trainer and LyCORIS, by the names of their options, say of the adapter."""
    if method.type == "textual_inversion":
        return {}
    # A reader divides alpha by the rank, whatever the scale is made of.
    factor = math.sqrt(method.rank) if method.type == "rslora" else 1.0
    arguments = dict(LYCORIS.get(method.type, {}))
    if method.factor is not None:
        arguments["factor"] = str(method.factor)
    if method.targets == "all":
        own = method.conv_rank or method.rank
        alpha = method.conv_alpha or method.true_alpha * own / method.rank
        stabilised = math.sqrt(own) if method.type == "rslora" else 1.0
        arguments |= {"conv_dim": str(own), "conv_alpha": str(alpha * stabilised)}
    return {
        "ss_network_module": "lycoris.kohya" if method.type in LYCORIS else "networks.lora",
        "ss_network_dim": method.rank,
        "ss_network_alpha": method.true_alpha * factor,
        "ss_network_args": json.dumps(arguments) if arguments else None,
    }
