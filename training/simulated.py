"""The simulated trainer of test keys: everything a client sees of a training, in seconds and without a GPU.

It holds a lease and tells its events through the same services as a worker, so what comes out (events, curves, a
sample, a checkpoint, a file that loads) differs from a real training only in being marked as simulated.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from PIL import Image, ImageDraw

from training.engine import events as told
from training.engine.generation import GenerationSpec
from training.findings import Findings
from training.kinds import JobKind
from training.models import TrainingJob, WantedCaption
from training.queue.claim import claim_simulated
from training.queue.lease import Lease
from training.queue.lookup import team_of
from training.services import telemetry
from training.services.finalize import complete, complete_short, start_finalizing
from training.services.lifecycle import (
    CrashReport,
    LeaseLost,
    cancel_job_now,
    fail_job,
    hold,
    pause_job_now,
    preempt_job_now,
)
from training.states import Desired, Simulated

ROUNDS = 5
_CAPTIONS_AT_ONCE = 100
_SIDE = 128
_RANK = 4
# One projection of the first attention block of a Stable Diffusion U-Net, as kohya's sd-scripts names it.
_MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
_WIDTH = 320
_FAILURES = {
    Simulated.OUT_OF_MEMORY: CrashReport(
        "out_of_memory",
        "The device ran out of memory (simulated).",
        category="capacity",
        hint="Train with smaller batches, or with gradient checkpointing.",
        patch={"/training/batch_size": 1},
    ),
    Simulated.DIVERGED: CrashReport(
        "diverged",
        "The loss is not a number any more (simulated).",
        category="user",
        hint="Train with a lower learning rate.",
        patch={"/training/learning_rate": 0.0001},
    ),
}


def run_simulated(uid: str) -> None:
    """Carry a waiting test training out to its end; a job that does not wait (any more) is left alone."""
    lease = claim_simulated(uid)
    while lease is not None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                again = _run(lease, Path(folder))
        except LeaseLost:
            return
        lease = claim_simulated(uid) if again else None


def _run(lease: Lease, folder: Path) -> bool:
    """Make one attempt; return whether the job waits for another one right away."""
    team = team_of(lease.job_uid)
    if team is None:
        return False
    job: TrainingJob = TrainingJob.jobs.for_team(team).get(uid=lease.job_uid)
    if job.is_short:
        _SHORT_WORK[JobKind(job.kind)](lease, folder, job)
        return False
    outcome = Simulated(job.simulate)
    steps = max(1, job.total_steps)
    begin = [told.Log("info", "This training is simulated: it was asked for with a test key.")]
    wish = _tell(lease, folder, *begin, _plan(job, steps), told.Phase("train", 0, steps))
    for number in range(1, ROUNDS + 1):
        step = max(1, round(steps * number / ROUNDS))
        if wish:
            return _obey(lease, folder, job, wish, step)
        time.sleep(settings.SIMULATED_ROUND_SECONDS)
        wish = _tell(lease, folder, *_progress(job, folder, step, steps, halfway=number == ROUNDS // 2))
        if number < ROUNDS // 2 + 1:
            continue
        if outcome == Simulated.PREEMPTED and lease.fence == 1:
            with transaction.atomic():
                preempt_job_now(hold(lease), has_saved=True)
            return True
        if outcome in _FAILURES:
            with transaction.atomic():
                fail_job(hold(lease), _FAILURES[outcome])
            return False
    return _obey(lease, folder, job, wish, steps)


def _draw_all(lease: Lease, folder: Path, job: TrainingJob) -> None:
    """Carry out an order of pictures, and what is found of them: every one of them shows that it is simulated."""
    spec = GenerationSpec.from_dict(job.spec)
    wish = _tell(lease, folder, told.Phase("draw", 0, spec.total))
    for picture in spec.pictures():
        if not wish:
            sample = _placeholder(folder, spec.prompts[picture.prompt], picture.seed)
            sample = replace(sample, prompt_index=picture.index, lora=bool(spec.mixes[picture.mix]))
            wish = _tell(lease, folder, sample)
    if job.kind == JobKind.EVALUATION and not wish:
        wish = _tell(lease, folder, *_findings(job))
    _end_short(lease, wish)


def _caption_all(lease: Lease, folder: Path, job: TrainingJob) -> None:
    """Carry out an order of captions: every picture keeps the one it has."""
    wanted = WantedCaption.objects.for_team(lease.team).filter(job=job, outcome="").order_by("pk")
    uids = list(wanted.values_list("item__uid", flat=True))
    wish = _tell(lease, folder, told.Phase("caption", 0, len(uids)))
    for start in range(0, len(uids), _CAPTIONS_AT_ONCE):
        if not wish:
            part = uids[start : start + _CAPTIONS_AT_ONCE]
            wish = _tell(lease, folder, *(told.Caption(uid, "a simulated caption") for uid in part))
    _end_short(lease, wish)


def _end_short(lease: Lease, wish: str) -> None:
    with transaction.atomic():
        locked = hold(lease)
        if wish == Desired.CANCEL:
            cancel_job_now(locked)
        elif wish == Desired.PAUSE:
            pause_job_now(locked)
        else:
            complete_short(locked)


def _findings(job: TrainingJob) -> list[told.Event]:
    """Tell figures of every file: each is closer to the set than the one before, and the last follows prompts less."""
    found = Findings.from_dict(job.evaluation or {})
    images = job.total_steps // (1 + len(found.files))
    last = len(found.files)
    return [
        told.Finding(
            file=each.file,
            step=each.step,
            style_distance=round(2 / (1 + number), 4),
            content_score=0.5 if number == last > 1 else 1.0,
            images=images,
        )
        for number, each in enumerate((found.base, *found.files))
    ]


_SHORT_WORK = {
    JobKind.CAPTIONING: _caption_all,
    JobKind.EVALUATION: _draw_all,
    JobKind.GENERATION: _draw_all,
}


def _obey(lease: Lease, folder: Path, job: TrainingJob, wish: str, step: int) -> bool:
    """End the attempt as somebody wishes, or well."""
    if wish == Desired.CANCEL:
        with transaction.atomic():
            cancel_job_now(hold(lease))
    elif wish == Desired.PAUSE:
        with transaction.atomic():
            pause_job_now(hold(lease))
    else:
        start_finalizing(lease)
        complete(lease, folder, _export(job, folder), step=step, stopped=wish == Desired.STOP)
    return False


def _tell(lease: Lease, folder: Path, *events: told.Event) -> str:
    now = timezone.now()
    return telemetry.record(lease, folder, [(event, now) for event in events])


def _plan(job: TrainingJob, steps: int) -> told.Plan:
    return told.Plan(
        total_steps=steps,
        epochs=1,
        steps_per_epoch=steps,
        batch_size=1,
        gradient_accumulation=1,
        device="simulated",
        threads=1,
        precision="float32",
        adapted_modules=1,
        trainable_parameters=2 * _RANK * _WIDTH,
        images=job.pictures.item_count,
        buckets={},
        resumed_from_step=0,
    )


def _progress(job: TrainingJob, folder: Path, step: int, steps: int, *, halfway: bool) -> list[told.Event]:
    loss = 0.08 + 0.12 * math.exp(-4 * step / steps)
    metrics = told.Metrics(
        step=step,
        total_steps=steps,
        epoch=1,
        steps_per_second=steps / 3,
        eta_seconds=3 * (1 - step / steps),
        memory_mb=0,
        series={"loss": [(step, loss)]},
    )
    events: list[told.Event] = [metrics]
    if halfway:
        export = _export(job, folder, name=f"step{step}.safetensors")
        events += [_sample(job, folder, step), _checkpoint(folder, step, export)]
    return events


def _sample(job: TrainingJob, folder: Path, step: int) -> told.Sample:
    sampling = job.spec["sampling"]
    prompts = [str(each) for each in sampling.get("prompts") or []]
    sample = _placeholder(folder, prompts[0] if prompts else "simulated", int(sampling["seed"]))
    return replace(sample, step=step, epoch=1)


def _placeholder(folder: Path, prompt: str, seed: int) -> told.Sample:
    picture = Image.new("RGB", (_SIDE, _SIDE), (236, 233, 250))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((24, 24, 104, 104), fill=(109, 84, 200))
    draw.text((38, 58), "simulated", fill=(255, 255, 255))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    (folder / "sample.png").write_bytes(buffer.getvalue())
    return told.Sample(
        step=0,
        epoch=0,
        prompt_index=0,
        prompt=prompt,
        seed=seed,
        path="sample.png",
        width=_SIDE,
        height=_SIDE,
        lora=True,
    )


def _checkpoint(folder: Path, step: int, export: told.Export) -> told.Checkpoint:
    # There is no folder to resume from: a simulated training that was paused begins anew.
    return told.Checkpoint(
        step=step,
        epoch=1,
        path="nothing",
        bytes=0,
        export=export.path,
        export_bytes=export.bytes,
        export_sha256=export.sha256,
    )


def _export(job: TrainingJob, folder: Path, name: str = "final.safetensors") -> told.Export:
    content = kohya_file({"lf_training": job.uid, "lf_file": name})
    (folder / name).write_bytes(content)
    return told.Export(
        path=name,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        keys=3,
        format="kohya",
        name=f"{job.name}-simulated.safetensors".replace("/", "_"),
    )


def kohya_file(marks: dict[str, str]) -> bytes:
    """Return a valid `.safetensors` in kohya's layout whose adapter changes nothing, marked as simulated.

    Format: 8 bytes length, a JSON header, the tensors (https://github.com/huggingface/safetensors#format).
    """
    shapes = {
        f"{_MODULE}.alpha": [],
        f"{_MODULE}.lora_down.weight": [_RANK, _WIDTH],
        f"{_MODULE}.lora_up.weight": [_WIDTH, _RANK],
    }
    header: dict[str, object] = {
        "__metadata__": {
            "lf_simulated": "true",
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(_RANK),
            "ss_network_alpha": str(_RANK),
            **marks,
        }
    }
    data = b""
    for key, shape in shapes.items():
        values = struct.pack("<f", _RANK) if not shape else bytes(4 * math.prod(shape))
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data
