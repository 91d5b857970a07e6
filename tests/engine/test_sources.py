"""Base models from a single checkpoint and from a hub: a small hub of our own answers on the loopback address."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from training.engine.errors import ConfigurationError
from training.engine.families.base import Parts
from training.engine.families.sd import StableDiffusion
from training.engine.families.sources import base_folder
from training.engine.families.unets import sgm_path
from training.engine.registry import load_family
from training.engine.sections import BaseModelSpec

from .conftest import CPU, assert_equal

COMMIT = "c" * 40


# -- one file ----------------------------------------------------------------------------------------------------------


def tiny_with_two_layers() -> Parts:
    """Return a Stable Diffusion with the two residual blocks a level that the original layout counts with."""
    import diffusers

    from training.engine.testing import tiny

    parts = StableDiffusion().tiny()
    make: Any = diffusers.UNet2DConditionModel
    with tiny.seeded(1):
        unet = make.from_config({**parts.denoiser.config, "layers_per_block": 2})
    return parts.with_denoiser(unet)


def original_vae_path(name: str) -> str:
    """Return the name of a weight of the autoencoder in a checkpoint of the original layout."""
    levels = 3
    name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(
        r"decoder\.up_blocks\.(\d)\.resnets\.(\d)",
        lambda m: f"decoder.up.{levels - 1 - int(m[1])}.block.{m[2]}",
        name,
    )
    name = re.sub(
        r"decoder\.up_blocks\.(\d)\.upsamplers\.0",
        lambda m: f"decoder.up.{levels - 1 - int(m[1])}.upsample",
        name,
    )
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


RESNET_NORMS = {"norm1": "in_layers.0", "norm2": "out_layers.0"}


def original_unet_path(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if module == "conv_norm_out":
        return f"out.0.{kind}"
    for ours, theirs in RESNET_NORMS.items():
        if module.endswith(f".{ours}") and ".resnets." in module:
            return (
                f"{sgm_path(module.removesuffix(ours) + 'conv1').removesuffix('in_layers.2')}{theirs}.{kind}"
            )
    return (
        f"{sgm_path(module)}.{kind}".replace(".2.conv.", ".1.conv.")
        if "up_blocks.0.upsamplers" in name
        else (f"{sgm_path(module)}.{kind}")
    )


def write_checkpoint(parts: Parts, path: Path) -> None:
    """Write the weights under the names of the first release of Stable Diffusion."""
    tensors = {
        **{
            f"model.diffusion_model.{original_unet_path(n)}": t
            for n, t in parts.denoiser.state_dict().items()
        },
        **{f"first_stage_model.{original_vae_path(n)}": t for n, t in parts.vae.state_dict().items()},
        **{
            f"cond_stage_model.transformer.text_model.{n.removeprefix('text_model.')}": t
            for n, t in parts.components["text_encoder"].state_dict().items()
        },
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def test_single_checkpoint_is_the_model_it_was_written_from(tmp_path: Path) -> None:
    family, parts = StableDiffusion(), tiny_with_two_layers()
    family.save(parts, tmp_path / "config")
    write_checkpoint(parts, tmp_path / "model.safetensors")
    for file in (tmp_path / "config").rglob("*.safetensors"):
        file.unlink()
    base = BaseModelSpec(str(tmp_path / "model.safetensors"), config=str(tmp_path / "config"))
    folder = base_folder(family, base, tmp_path / "cache")
    loaded = family.load(folder, device=CPU, dtype=torch.float32)
    for name in ("unet", "vae", "text_encoder"):
        assert_equal(dict(parts.components[name].state_dict()), dict(loaded.components[name].state_dict()))
    made = (folder / "model_index.json").stat().st_mtime_ns
    assert base_folder(family, base, tmp_path / "cache") == folder
    assert (folder / "model_index.json").stat().st_mtime_ns == made, "it was made twice"


def test_checkpoint_that_cannot_be_used_is_refused_with_advice(tmp_path: Path) -> None:
    family = StableDiffusion()
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="pickled weights are never loaded"):
        base_folder(family, BaseModelSpec(str(tmp_path / "model.ckpt")), tmp_path)
    (tmp_path / "page.safetensors").write_text("<html>not found</html>")
    with pytest.raises(
        ConfigurationError, match=r"page\.safetensors is not a whole safetensors file"
    ) as caught:
        base_folder(family, BaseModelSpec(str(tmp_path / "page.safetensors")), tmp_path)
    assert caught.value.code == "single_file_unreadable"
    family.save(family.tiny(), tmp_path / "config")
    save_file({"something": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigurationError) as caught:
        base_folder(
            family,
            BaseModelSpec(str(tmp_path / "other.safetensors"), config=str(tmp_path / "config")),
            tmp_path,
        )
    assert caught.value.code == "single_file_unreadable"
    with pytest.raises(ConfigurationError) as caught:
        base_folder(
            family,
            BaseModelSpec(str(tmp_path / "other.safetensors"), config=str(tmp_path / "none")),
            tmp_path,
        )
    assert caught.value.code == "base_model_config"
    assert not list(tmp_path.glob("bases/*"))


# -- the hub ---------------------------------------------------------------------------------------------------------


class Hub(ThreadingHTTPServer):
    """Serve the files of one folder as the repository ``team/style``; ``team/closed`` is gated."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        files = [str(p.relative_to(self.server.folder)) for p in self.server.folder.rglob("*") if p.is_file()]
        info = {"id": "team/style", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        if found := re.fullmatch(r"/api/models/team/(style|closed)/revision/(\w+)", self.path):
            if found[2] not in ("main", COMMIT):
                return self._reply(404, b"{}", X_Error_Code="RevisionNotFound")
            return self._reply(200, json.dumps(info).encode(), Content_Type="application/json")
        if re.match(rf"/api/models/team/(style|closed)/tree/{COMMIT}", self.path):
            tree = [{"type": "file", "path": name, "oid": "0", "size": 1} for name in files]
            return self._reply(200, json.dumps(tree).encode(), Content_Type="application/json")
        if self.path.startswith("/team/closed/resolve/"):
            return self._reply(403, b"{}", X_Error_Code="GatedRepo")
        if found := re.fullmatch(rf"/team/style/resolve/{COMMIT}/(.+)", self.path):
            data = (self.server.folder / found[1]).read_bytes()
            if self.command == "GET":
                self.server.fetched.append(found[1])
            return self._reply(200, data, ETag=f'"{hashlib.sha256(data).hexdigest()}"')
        return self._reply(404, b"{}", X_Error_Code="RepoNotFound")


@pytest.fixture
def hub(bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(bases["sd"])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_repository_of_the_hub_is_fetched_once(hub: Hub, bases: dict[str, Path], tmp_path: Path) -> None:
    family = load_family("sd")
    folder = base_folder(family, BaseModelSpec("team/style"), tmp_path)
    loaded = family.load(folder, device=CPU, dtype=torch.float32)
    assert_equal(dict(loaded.denoiser.state_dict()), dict(family.tiny().denoiser.state_dict()))
    assert "model_index.json" in hub.fetched
    assert len(hub.fetched) == len(set(hub.fetched))
    count = len(hub.fetched)
    assert base_folder(family, BaseModelSpec(f"team/style@{COMMIT}"), tmp_path) == folder
    assert len(hub.fetched) == count


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("team/closed", "base_model_gated", "huggingface.co/team/closed"),
        ("team/nothing", "base_model_not_found", "Check the spelling"),
        ("team/style@gone", "base_model_not_found", "Leave the revision out"),
    ],
)
def test_what_the_hub_refuses_is_said_with_advice(
    hub: Hub, tmp_path: Path, name: str, code: str, words: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        base_folder(load_family("sd"), BaseModelSpec(name), tmp_path)
    assert caught.value.code == code
    assert words in (caught.value.hint or "")


def test_hub_without_a_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigurationError) as caught:
        base_folder(load_family("sd"), BaseModelSpec("team/style"), tmp_path)
    assert caught.value.code == "hub_unreachable"


def test_path_that_is_nothing_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="was not found"):
        base_folder(load_family("sd"), BaseModelSpec(str(tmp_path / "none")), tmp_path)
