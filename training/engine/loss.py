"""The loss of a step: which times are drawn, how far a prediction is off, how much each time counts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.engine.diffusion import NoiseProcess
from training.engine.errors import ConfigurationError
from training.engine.spec import TrainingSpec


def spread_times(u: Tensor, training: TrainingSpec, default: str) -> Tensor:
    """Map uniform numbers in [0, 1) to the wanted distribution over [0, 1), in double precision.

    ``default`` is the family's, taken for "auto". Logit-normal and mode sampling: Esser et al. 2024, section 3.1.
    """
    u = u.double()
    kind = default if training.timestep_sampling == "auto" else training.timestep_sampling
    if kind == "logit_normal":
        # The quantile of the same uniform number, so that a number stays a pure function of (seed, step, sample).
        normal = torch.special.ndtri(u.clamp(1e-9, 1.0 - 1e-9))
        u = torch.sigmoid(training.logit_mean + training.logit_std * normal)
    elif kind == "mode":
        u = 1.0 - u - training.mode_scale * (torch.cos(math.pi / 2 * u).square() - 1.0 + u)
    low, high = training.timestep_min, training.timestep_max
    return (low + (high - low) * u).clamp(0.0, 1.0 - 1e-9)


def per_sample_loss(
    prediction: Tensor, target: Tensor, *, kind: str = "l2", huber_c: float = 0.1, mask: Tensor | None = None
) -> Tensor:
    """Return the mean error of each sample in fp32, shape (B,).

    ``huber`` is 2 c (sqrt(d^2 + c^2) - c), which is d^2 near 0 and 2 c |d| far away; ``smooth_l1`` the same over c.
    ``mask`` (B, 1, h, w) in [0, 1] weighs places; its mean is divided out, so that a small mask counts as much.
    """
    difference = prediction.float() - target.float()
    if kind == "l2":
        error = difference.square()
    else:
        error = 2.0 * ((difference.square() + huber_c * huber_c).sqrt() - huber_c)
        if kind == "huber":
            error = huber_c * error
    if mask is None:
        return error.flatten(1).mean(1)
    weight = mask.to(error).expand_as(error)
    return (error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1e-6)


def check_loss(process: NoiseProcess, training: TrainingSpec) -> None:
    """Raise ConfigurationError for a setting that has no meaning for what the base model predicts."""
    flow = process.objective == "flow"

    def refuse(pointer: str, what: str, value: object) -> None:
        raise ConfigurationError(
            "loss_unsupported", f"{what} does not fit this base model, which predicts {process.objective}",
            hint="Leave it off for this base model.", patch={pointer: value},
        )  # fmt: skip

    if flow and training.min_snr_gamma is not None:
        refuse("/training/min_snr_gamma", "Min-SNR", None)
    if flow and training.loss_weighting == "debiased":
        refuse("/training/loss_weighting", "debiased estimation", "none")
    if not flow and training.loss_weighting in ("cosmap", "sigma_sqrt"):
        refuse("/training/loss_weighting", f"the weighting {training.loss_weighting!r}", "none")
    if training.zero_terminal_snr and process.objective != "v":
        refuse("/training/zero_terminal_snr", "zero terminal SNR", False)


def time_weight(process: NoiseProcess, t: Tensor, training: TrainingSpec) -> Tensor | None:
    """Return the weight of each time, shape (B,), in fp32 on the CPU; None where all count the same.

    Min-SNR (Hang et al. 2023): min(snr, g) / snr for eps, / (snr + 1) for v. Debiased (Yu et al. 2023): 1 / sqrt(snr),
    1 / (snr + 1) for v. Flow (Esser et al. 2024): cosmap 2 / (pi (1 - 2s + 2s^2)), sigma_sqrt 1 / s^2. All are finite,
    also where the ratio is zero.
    """
    weight: Tensor | None = None
    v = process.objective == "v"
    if training.min_snr_gamma is not None:
        snr = process.snr(t)
        clipped = snr.clamp_max(training.min_snr_gamma)
        weight = clipped / (snr + 1.0) if v else torch.where(snr > 0, clipped / snr.clamp_min(1e-30), 1.0)
    kind = training.loss_weighting
    if kind != "none":
        if kind == "debiased":
            snr = process.snr(t).clamp(1e-3, 1000.0)
            extra = 1.0 / (snr + 1.0) if v else snr.rsqrt()
        else:
            sigma = t.cpu().double()
            if kind == "cosmap":
                extra = 2.0 / (math.pi * (1.0 - 2.0 * sigma + 2.0 * sigma.square()))
            else:
                extra = sigma.clamp_min(1e-3).square().reciprocal()
        weight = extra if weight is None else weight * extra
    return None if weight is None else weight.float()
