"""The forms of a change of weight, and how each layout of file writes and reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.engine.errors import ConfigurationError
from training.engine.export.factors import (
    VerificationError,
    read_factors,
    require_writable,
    tensors,
)
from training.engine.export.table import ExportTable, Place
from training.engine.export.verify import hooked
from training.engine.methods.base import WeightDelta
from training.engine.methods.changes import Change, Decomposed, Hadamard, Kronecker, LowRank

LAYOUTS = {
    "kohya": ExportTable("kohya", {"denoiser": "lora_unet"}),
    "peft": ExportTable("peft", {"denoiser": "transformer"}),
    "comfy": ExportTable("comfy", {"denoiser": "diffusion_model"}),
}
STEMS = {"kohya": "lora_unet_a_b", "peft": "transformer.a.b", "comfy": "diffusion_model.a.b"}


class Trained:
    """Be an adapter that has learned these changes."""

    modules = 1

    def __init__(self, changes: dict[str, tuple[nn.Module, Change]]) -> None:
        self._changes = changes

    def deltas(self) -> Iterator[WeightDelta]:
        for name, (layer, change) in self._changes.items():
            yield WeightDelta("denoiser", name, layer, change)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def linear() -> nn.Module:
    layer = nn.Linear(6, 4)
    with torch.no_grad():
        layer.weight.copy_(noise(4, 6))
        layer.bias.copy_(noise(4))
    return layer.requires_grad_(False)


def convolution() -> nn.Module:
    layer = nn.Conv2d(6, 4, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(noise(4, 6, 3, 3))
        layer.bias.copy_(noise(4))
    return layer.requires_grad_(False)


LOW = LowRank(noise(2, 6), noise(4, 2), scale=1.5)
LOW_CONV = LowRank(noise(2, 6, 3, 3), noise(4, 2, 1, 1), scale=1.5)
HADA = Hadamard(noise(4, 2), noise(2, 6), noise(4, 2) + 1, noise(2, 6) - 1, scale=0.5)
HADA_CONV = Hadamard(noise(4, 2), noise(2, 54), noise(4, 2) + 1, noise(2, 54) - 1, scale=0.5)
KRON = Kronecker((noise(2, 2),), (noise(2, 1), noise(1, 3)), scale=3.0)
KRON_WHOLE = Kronecker((noise(2, 2),), (noise(2, 3),), scale=3.0)
KRON_CONV = Kronecker((noise(2, 2),), (noise(2, 3, 3, 3),), scale=3.0)
ROWS = Decomposed(LOW.down, LOW.up, noise(4, 1).abs() + 1, scale=1.5)
COLUMNS = Decomposed(LOW.down, LOW.up, noise(1, 6).abs() + 1, scale=1.5)
ROWS_CONV = Decomposed(LOW_CONV.down, LOW_CONV.up, noise(4, 1, 1, 1).abs() + 1, scale=1.5)
COLUMNS_CONV = Decomposed(LOW_CONV.down, LOW_CONV.up, noise(1, 6, 1, 1).abs() + 1, scale=1.5)

FORMS: dict[str, tuple[Any, Change, dict[str, Any]]] = {
    "lora": (linear, LOW, {"alpha": 3.0}),
    "lora-conv": (convolution, LOW_CONV, {"alpha": 3.0}),
    "loha": (linear, HADA, {"alpha": 1.0}),
    "loha-conv": (convolution, HADA_CONV, {"alpha": 1.0}),
    "lokr": (linear, KRON, {"alpha": 3.0}),
    "lokr-whole": (linear, KRON_WHOLE, {"alpha": 1.0}),
    "lokr-conv": (convolution, KRON_CONV, {"alpha": 1.0}),
    "dora-columns": (linear, COLUMNS, {"alpha": 3.0}),
    "dora-columns-conv": (convolution, COLUMNS_CONV, {"alpha": 3.0}),
}


def test_products_are_those_of_the_definitions() -> None:
    two = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    row, column = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [5.0]])
    assert LowRank(row, column, scale=2.0).product().tolist() == [[6.0, 12.0], [10.0, 20.0]]
    assert Hadamard(column, row, column, row, scale=0.5).product().tolist() == [[4.5, 18.0], [12.5, 50.0]]
    assert Kronecker((two,), (row,), scale=1.0).product().tolist() == [
        [2.0, 4.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 2.0],
    ]
    assert Kronecker((two,), (column, row), scale=1.0).product()[0].tolist() == [6.0, 12.0, 0.0, 0.0]


@pytest.mark.parametrize(("change", "over"), [(ROWS, 1), (COLUMNS, 0)])
def test_decomposed_weight_has_the_wanted_lengths_and_directions(change: Decomposed, over: int) -> None:
    weight = noise(4, 6)
    new = weight + change.change_of(weight)
    assert torch.allclose(new.norm(dim=over, keepdim=True), change.magnitude)
    merged = weight + LOW.product()
    assert torch.allclose(
        nn.functional.normalize(new, dim=over), nn.functional.normalize(merged, dim=over), atol=1e-6
    )
    half = change.times(0.5).change_of(weight)
    assert torch.allclose(half, 0.5 * change.change_of(weight))


@pytest.mark.parametrize("form", FORMS)
def test_layer_with_a_change_computes_what_the_changed_weight_does(form: str) -> None:
    make, change, _ = FORMS[form]
    layer = make()
    x = noise(3, 6, 5, 5) if isinstance(layer, nn.Conv2d) else noise(3, 5, 6)
    changed = make()
    with torch.no_grad():
        changed.weight += change.times(0.7).change_of(layer.weight).view_as(layer.weight)
        expected = changed(x)
        model = nn.ModuleDict({"a": nn.ModuleDict({"b": layer})})
        slots = LAYOUTS["kohya"].slots({"denoiser": model})
        with hooked(model, slots, {STEMS["kohya"]: change.times(0.7)}):
            assert torch.allclose(layer(x), expected, atol=2e-5)
        assert not torch.allclose(layer(x), expected, atol=1e-2)


# peft knows lengths of rows alone.
WRITTEN = [
    (form, layout) for form in FORMS for layout in LAYOUTS if not (form[:4] == "dora" and layout == "peft")
]


@pytest.mark.parametrize(("form", "layout"), WRITTEN)
def test_written_file_is_read_as_the_same_change(tmp_path: Path, form: str, layout: str) -> None:
    make, change, about = FORMS[form]
    layer = make()
    content = tensors(LAYOUTS[layout], Trained({"a.b": (layer, change)}), torch.float32)  # type: ignore[arg-type]
    save_file(content, tmp_path / "x.safetensors")
    (read,) = read_factors(tmp_path / "x.safetensors").values()
    assert type(read) is type(change)
    assert torch.allclose(read.change_of(layer.weight), change.change_of(layer.weight), rtol=1e-5, atol=1e-6)
    alpha = content.get(f"{STEMS[layout]}.alpha")
    assert (None if alpha is None else float(alpha)) == (about["alpha"] if layout == "kohya" else None)


@pytest.mark.parametrize(("make", "change"), [(linear, ROWS), (convolution, ROWS_CONV)])
def test_lengths_of_rows_are_written_for_diffusers_and_for_comfyui(
    tmp_path: Path, make: Any, change: Decomposed
) -> None:
    layer = make()
    content = tensors(LAYOUTS["peft"], Trained({"a.b": (layer, change)}), torch.bfloat16)  # type: ignore[arg-type]
    vector, scale = (content[f"transformer.a.b.{n}"] for n in ("lora_magnitude_vector", "dora_scale"))
    assert tuple(vector.shape) == ((4,) if layer.weight.ndim == 2 else (1, 4, 1, 1))
    assert vector.dtype == scale.dtype == torch.float32
    weight = layer.weight
    theirs = (weight + change.product().view_as(weight)) * (scale / change.lengths(weight))
    assert torch.allclose((theirs - weight).flatten(1), change.change_of(weight), atol=1e-5)
    save_file(content, tmp_path / "x.safetensors")
    (read,) = read_factors(tmp_path / "x.safetensors").values()
    assert isinstance(read, Decomposed)
    assert torch.equal(read.magnitude, change.magnitude)


def test_lengths_are_not_rounded_to_the_format_of_the_file(tmp_path: Path) -> None:
    content = tensors(LAYOUTS["kohya"], Trained({"a.b": (linear(), COLUMNS)}), torch.float16)  # type: ignore[arg-type]
    assert torch.equal(content["lora_unet_a_b.dora_scale"], COLUMNS.magnitude)
    assert content["lora_unet_a_b.lora_up.weight"].dtype == torch.float16


def fused(part: str, module: str) -> Place:
    return Place("qkv", "qkv".index(module), 3)


def test_fused_layers_are_one_entry_of_lora_and_are_parted_again(tmp_path: Path) -> None:
    table = ExportTable("comfy", {"denoiser": "diffusion_model"}, fused)
    layers = {name: linear() for name in "qkv"}
    changes = {name: LOW.times(number + 1.0) for number, name in enumerate("qkv")}
    adapter: Any = Trained({name: (layers[name], changes[name]) for name in "vqk"})
    require_writable(table, adapter)
    save_file(tensors(table, adapter, torch.float32), tmp_path / "x.safetensors")
    (read,) = read_factors(tmp_path / "x.safetensors").values()
    slots = table.slots({"denoiser": nn.ModuleDict(layers)})["diffusion_model.qkv"]
    for slot in slots:
        assert torch.allclose(read.rows(slot.rows).product(), changes[slot.module].product(), atol=1e-6)


@pytest.mark.parametrize("change", [HADA, KRON, ROWS, COLUMNS])
def test_forms_that_cannot_be_fused_are_refused_with_what_to_do(change: Change) -> None:
    table = ExportTable("comfy", {"denoiser": "diffusion_model"}, fused)
    adapter: Any = Trained({name: (linear(), change) for name in "qkv"})
    with pytest.raises(ConfigurationError, match="fuse") as caught:
        require_writable(table, adapter)
    assert (caught.value.code, caught.value.patch) == ("layout_unsupported", {"/method/type": "lora"})
    with pytest.raises(ConfigurationError):
        tensors(table, adapter, torch.float32)


def test_fused_forms_of_other_programs_are_refused_when_they_cannot_be_parted() -> None:
    for change in (HADA, KRON, COLUMNS):
        assert change.rows(None) is change
        with pytest.raises(ConfigurationError, match="cannot be parted"):
            change.rows(slice(0, 2))
    assert torch.equal(ROWS.rows(slice(1, 3)).magnitude, ROWS.magnitude[1:3])


@pytest.mark.parametrize(
    ("form", "damage", "code"),
    [
        ("loha", {"hada_w1_b": None}, "export_key"),
        ("loha", {"hada_w2_b": 0.0}, "export_empty"),
        ("loha", {"alpha": None}, "export_key"),
        ("lokr", {"lokr_w2_a": None}, "export_key"),
        ("lokr", {"lokr_w1": None}, "export_key"),
        ("lokr-whole", {"lokr_w1": 0.0}, "export_empty"),
        ("lokr-whole", {"lokr_w2": float("nan")}, "export_not_finite"),
        ("dora-columns", {"dora_scale": float("inf")}, "export_not_finite"),
        ("dora-columns", {"lora_up.weight": 0.0}, "export_empty"),
    ],
)
def test_damaged_entries_are_named(tmp_path: Path, form: str, damage: dict[str, Any], code: str) -> None:
    make, change, _ = FORMS[form]
    content = tensors(LAYOUTS["kohya"], Trained({"a.b": (make(), change)}), torch.float32)  # type: ignore[arg-type]
    for suffix, value in damage.items():
        key = f"lora_unet_a_b.{suffix}"
        content[key] = torch.full_like(content[key], value or 0.0)
        if value is None:
            del content[key]
    save_file(content, tmp_path / "x.safetensors")
    with pytest.raises(VerificationError) as caught:
        read_factors(tmp_path / "x.safetensors")
    assert caught.value.code == code
