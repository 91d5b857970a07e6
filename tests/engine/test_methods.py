"""What every training method must satisfy on every family it fits; one that registers gets these tests for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from training.engine.errors import ConfigurationError
from training.engine.export import factors, verify
from training.engine.export.weights_file import read_metadata, write
from training.engine.families.base import ModelFamily, Parts
from training.engine.methods.base import Adapter
from training.engine.registry import load_family, load_method, method_names

from .conformance import assert_parts_add_up, inputs_of
from .conftest import Build, assert_equal, make_spec, recorded, weights

METHODS = [name for name in method_names() if name != "textual_inversion"]
"""Those that change layers; what finds a word is in test_words.py."""

ROUNDING = 3e-5
"""What adding up in another order changes of an effect; 1.3e-5 was seen."""


def attached(
    name: str, family: ModelFamily, parts: Parts, pictures: Path, layout: str = "auto", **settings: Any
) -> Adapter:
    method = {
        "type": name, "alpha": 3.0, "targets": "attn-mlp", "text_encoder": bool(family.trainable_encoders), **settings
    }  # fmt: skip
    spec = make_spec(Path(family.name), pictures, method=method, output={"layout": layout})
    return load_method(name).attach(family, parts, spec)


def shake(adapter: Adapter) -> None:
    """Move every tensor by a little, as if something was learned."""
    state = adapter.state_dict()
    for number, name in enumerate(sorted(state)):
        generator = torch.Generator().manual_seed(number)
        state[name] = state[name] + 0.2 * torch.randn(state[name].shape, generator=generator)
    adapter.load_state_dict(state)


def fuses(family: ModelFamily, layout: str, parts: Parts) -> bool:
    """Tell whether files of a layout hold several layers as one."""
    slots = family.exports[layout].slots({"denoiser": parts.denoiser})
    return any(len(each) > 1 for each in slots.values())


# -- every method with every family ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_method_fits_the_family_and_its_files(
    name: str, family: ModelFamily, pictures: Path, tmp_path: Path
) -> None:
    for layout, table in family.exports.items():
        parts = family.tiny()
        inputs = inputs_of(family, parts)
        with torch.no_grad():
            before = family.forward(parts, *inputs)
            adapter = attached(name, family, parts, pictures, layout)
            assert torch.equal(before, family.forward(parts, *inputs)), "a fresh adapter changes something"
        _only_the_adapter_is_trained(adapter, parts)
        shake(adapter)
        with torch.no_grad(), adapter.disabled():
            assert torch.equal(before, family.forward(parts, *inputs)), "switched off is not the base"
        if fuses(family, layout, parts) and name not in ("lora", "rslora"):
            with pytest.raises(ConfigurationError, match="fuse"):
                factors.require_writable(table, adapter)
            continue
        factors.require_writable(table, adapter)
        path = tmp_path / f"{layout}.safetensors"
        write(path, factors.tensors(table, adapter, torch.float32), {})
        read = verify.verify_file(path, table, parts, adapter)
        with adapter.disabled():
            (text,) = family.encode_text(parts, ["a red cat"])
        assert verify.verify_effect(read, family, table, parts, adapter, text, "fp32") < ROUNDING


@pytest.mark.parametrize("name", METHODS)
def test_detached_adapter_leaves_the_model_as_it_was(name: str, pictures: Path) -> None:
    family = load_family("sd")
    parts = family.tiny()
    inputs = inputs_of(family, parts)
    layers = {part: dict(model.named_modules()) for part, model in parts.adaptable.items()}
    with torch.no_grad():
        before = family.forward(parts, *inputs)
        for _ in range(2):
            adapter = attached(name, family, parts, pictures, targets="all")
            shake(adapter)
            assert not torch.equal(before, family.forward(parts, *inputs))
            adapter.detach()
            assert torch.equal(before, family.forward(parts, *inputs))
    assert {part: dict(model.named_modules()) for part, model in parts.adaptable.items()} == layers


def _only_the_adapter_is_trained(adapter: Adapter, parts: Parts) -> None:
    own = {id(p): name for group in adapter.groups() for name, p in group.parameters}
    trained = [p for model in parts.adaptable.values() for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == own.keys()
    assert {p.dtype for p in trained} == {torch.float32}
    assert adapter.modules > 0
    assert set(adapter.state_dict()) == set(own.values())


@pytest.mark.parametrize("name", METHODS)
def test_fresh_values_follow_from_the_seed_and_the_layer(name: str, pictures: Path) -> None:
    family = load_family("sd")
    one, two = (attached(name, family, family.tiny(), pictures) for _ in range(2))
    assert_equal(one.state_dict(), two.state_dict())
    shake(one)
    one.initialise(0)
    assert_equal(one.state_dict(), two.state_dict())
    two.initialise(1)
    other = two.state_dict()
    drawn = [key for key, value in one.state_dict().items() if not torch.equal(value, other[key])]
    assert len(drawn) >= two.modules


# -- whole runs of every method ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_micro_batches_add_up_to_the_batch(name: str, build: Build) -> None:
    trainer = build("sd", method={"type": name, "targets": "all"}, training={"batch_size": 4})
    shake(trainer.adapter)
    assert_parts_add_up(trainer, 4, 1)


@pytest.mark.parametrize("name", METHODS)
def test_resumed_run_ends_with_the_same_weights_and_the_same_file(
    name: str, build: Build, tmp_path: Path
) -> None:
    method = {"type": name, "alpha": 3.0, "targets": "all", "text_encoder": True}
    whole = build("sd", run="whole", method=method)
    fresh = weights(whole)
    whole.train()
    assert any(not torch.equal(fresh[key], value) for key, value in weights(whole).items())
    again = build(
        "sd", run="again", method=method, resume_from=tmp_path / "whole" / "checkpoints" / "step-00000003"
    )
    again.train()
    assert_equal(weights(whole), weights(again))
    files = [trainer.export_lora_weights() for trainer in (whole, again)]
    digests = {read_metadata(path)["sshs_model_hash"] for path in files}
    assert len(digests) == 1
    assert read_metadata(files[0])["lora_foundry.method"] == name


@pytest.mark.parametrize("name", METHODS)
def test_training_lowers_the_loss_on_pictures_kept_aside(name: str, build: Build) -> None:
    trainer = build(
        "sd", method={"type": name, "targets": "all"},
        training={"steps": 40, "learning_rate": 1e-2, "held_out": 0.2}, checkpoint={"every_steps": 1000},
    )  # fmt: skip
    trainer.train()
    held_out = recorded(trainer).curve("held_out_loss")
    assert held_out[40] < 0.99 * held_out[0]


# -- read by diffusers -------------------------------------------------------------------------------------------------

READ_BY_DIFFUSERS = [
    ("sd", "lora"), ("sd", "rslora"), ("sdxl", "lora"), ("sdxl", "rslora"),
    ("flux", "lora"), ("flux", "rslora"), ("flux", "dora"), ("flux", "lokr"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "name"), READ_BY_DIFFUSERS)
def test_diffusers_reads_the_file_to_the_same_effect(
    base: str, name: str, pictures: Path, tmp_path: Path
) -> None:
    family = load_family(base)
    parts, theirs = family.tiny(), family.tiny()
    with torch.no_grad():
        inputs = inputs_of(family, parts)
        plain = family.forward(parts, *inputs)
        rules = ["to_k: rank=2", "to_v: rank=3, alpha=5"] if name != "lokr" else []
        adapter = attached(name, family, parts, pictures, text_encoder=False, rules=rules)
        shake(adapter)
        ours = family.forward(parts, *inputs)
        path = tmp_path / "x.safetensors"
        table = next(iter(family.exports.values()))
        write(path, factors.tensors(table, adapter, torch.float32), {})
        pipeline = theirs.pipeline(getattr(diffusers, family.pipelines[0]))
        if name == "lokr":  # the pipeline's loader of FLUX.1 refuses it, that of its transformer does not
            pipeline.transformer.load_lora_adapter(path, prefix="transformer")
        else:
            pipeline.load_lora_weights(path)
        read = family.forward(theirs, *inputs)
    effect = float((ours - plain).norm())
    assert effect > 1e-2 * float(plain.norm())
    assert float((read - ours).norm()) < 1e-5 * effect


# -- one by one --------------------------------------------------------------------------------------------------------


def layer_of(parts: Parts) -> Any:
    name = next(n for n, m in parts.denoiser.named_modules() if n.endswith("attn1.to_k"))
    return parts.denoiser.get_submodule(name)


@pytest.mark.parametrize(
    ("name", "scale"), [("lora", 3.0 / 4), ("rslora", 3.0 / 2), ("loha", 0.75), ("lokr", 0.75)]
)
def test_scale_is_alpha_by_rank_or_by_its_root(name: str, scale: float, pictures: Path) -> None:
    family = load_family("sd")
    adapter = attached(name, family, family.tiny(), pictures)
    assert {delta.change.scale for delta in adapter.deltas()} == {scale}


def test_rank_stabilised_file_says_an_alpha_that_readers_divide_right(build: Build) -> None:
    trainer = build("sd", method={"type": "rslora", "alpha": 3.0})
    content = factors.tensors(trainer.table, trainer.adapter, torch.float16)
    assert {float(t) for key, t in content.items() if key.endswith(".alpha")} == {6.0}


@pytest.mark.parametrize("name", ["loha", "lokr"])
def test_number_format_under_autocast_is_that_of_the_base_layer(name: str, pictures: Path) -> None:
    family = load_family("sd")
    parts = family.tiny()
    x = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        before: Tensor = layer_of(parts)(x)
        attached(name, family, parts, pictures)
        after: Tensor = layer_of(parts)(x)
    assert before.dtype == after.dtype == torch.bfloat16
    assert torch.equal(before, after)


@pytest.mark.parametrize(("factor", "side"), [(None, 4), (2, 2)])
def test_block_size_of_lokr_is_the_side_of_its_first_matrix(
    factor: int | None, side: int, pictures: Path
) -> None:
    family = load_family("sd")
    parts = family.tiny()
    attached("lokr", family, parts, pictures, factor=factor)
    assert tuple(layer_of(parts).lokr_w1["default"].shape) == (side, side)


def test_lengths_are_of_columns_for_kohya_files_and_of_rows_for_peft_files(pictures: Path) -> None:
    for base, over in (("sd", 1), ("flux", 0)):
        family = load_family(base)
        parts = family.tiny()
        adapter = attached("dora", family, parts, pictures, targets="all", text_encoder=False)
        shake(adapter)
        for delta in adapter.deltas():
            change: Any = delta.change
            weight: Any = delta.layer.weight
            new = (weight.flatten(1) + change.change_of(weight)).view_as(weight)
            dims = [dim for dim in range(weight.ndim) if dim != over]
            lengths = torch.linalg.vector_norm(new, dim=dims, keepdim=True)
            assert torch.allclose(lengths, change.magnitude.abs(), rtol=1e-4)


@pytest.mark.parametrize("base", ["sd", "flux"])
def test_magnitudes_are_trained_and_the_lengths_get_no_gradient(base: str, pictures: Path) -> None:
    family = load_family(base)
    parts = family.tiny()
    adapter = attached("dora", family, parts, pictures, text_encoder=False)
    family.forward(parts, *inputs_of(family, parts)).square().mean().backward()
    own = {name: p for group in adapter.groups() for name, p in group.parameters}
    missing = [n for n, p in own.items() if p.grad is None]
    assert not missing
    assert all(bool(p.grad.any()) for n, p in own.items() if n.endswith("magnitude") and p.grad is not None)
    assert not any(bool(p.grad.any()) for n, p in own.items() if "lora_A" in n and p.grad is not None)


def test_convolutions_have_a_rank_and_an_alpha_of_their_own(pictures: Path) -> None:
    family = load_family("sd")
    for settings, expected in (
        ({"conv_rank": 2, "conv_alpha": 1.0}, (2, 0.5)),
        ({"conv_rank": 2}, (2, 0.75)),
        ({}, (4, 0.75)),
    ):
        adapter = attached(
            "lora", family, family.tiny(), pictures, targets="all", text_encoder=False, **settings
        )
        sizes = {True: set(), False: set()}
        for delta in adapter.deltas():
            kernel = isinstance(delta.layer, nn.Conv2d) and delta.layer.kernel_size != (1, 1)
            sizes[kernel].add((delta.change.rank, delta.change.scale))
        assert sizes == {True: {expected}, False: {(4, 0.75)}}
