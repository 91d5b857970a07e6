"""The whole path as a newcomer walks it: `manage.py up`, a real browser, real pictures, a file that works elsewhere."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import watched_page
from tests.installation import ROOT, WholeInstallation, running

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

INK = ROOT / "demo" / "styles" / "ink"
KOHYA_PARTS = {"lora_down.weight", "lora_up.weight", "alpha"}
# Waiting times are limits, not expectations: this machine may be doing other things.
SOON, TRAINED = 60_000, 420_000


@pytest.fixture(scope="module")
def site() -> Iterator[WholeInstallation]:
    with running(WholeInstallation) as installation:
        yield installation


@pytest.fixture
def page(browser: Browser, site: WholeInstallation) -> Iterator[Page]:
    with watched_page(
        browser,
        base_url=f"http://127.0.0.1:{site.port}",
        viewport={"width": 1440, "height": 900},
        locale="en-US",
    ) as page:
        yield page


def picture_zip(path: Path) -> Path:
    """Pack half of the ink pictures with their captions, and one file that tries to leave the folder."""
    pictures = sorted(INK.glob("*.png"))[10:]
    with zipfile.ZipFile(path, "w") as archive:
        for picture in pictures:
            archive.write(picture, f"ink/{picture.name}")
            archive.write(picture.with_suffix(".txt"), f"ink/{picture.stem}.txt")
        archive.writestr("../../evil.png", b"not a picture")
    return path


def test_the_demo_training_runs_already_and_can_be_canceled(site: WholeInstallation, page: Page) -> None:
    login = json.loads((site.var / "demo.json").read_text())
    page.goto("/")
    page.get_by_label("E-mail address").fill(login["email"])
    page.get_by_label("Password", exact=True).fill(login["password"])
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Under way")).to_be_visible()
    page.locator("main a[href*='/trainings/trn_']").first.click()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.locator("#confirm-cancel [data-dialog-confirm]").click()
    expect(page.get_by_text("Canceled", exact=True).first).to_be_visible(timeout=SOON)


def test_a_newcomer_trains_a_lora_that_changes_the_pictures_of_a_fresh_pipeline(
    site: WholeInstallation, page: Page, tmp_path: Path
) -> None:
    sign_up(page)
    make_dataset(page, tmp_path)
    start_training(page)
    watch_to_the_end(page)
    with page.expect_download() as downloaded:
        page.locator("a[href*='/lora-files/']").first.click()
    file = tmp_path / downloaded.value.suggested_filename
    downloaded.value.save_as(file)
    assert file.suffix == ".safetensors"
    check_in_a_fresh_pipeline(file)
    check_the_model_page(page)
    check_the_mail(page)


def sign_up(page: Page) -> None:
    page.goto("/account/signup/")
    page.get_by_label("Your name").fill("Ines")
    page.get_by_label("E-mail address").fill("ines@example.org")
    page.get_by_label("Password", exact=True).fill("a long pass phrase")
    page.get_by_label("Team name").fill("Atelier Ines")
    page.get_by_role("button", name="Create account").click()
    expect(page).to_have_url(re.compile(r"/t/atelier-ines/$"))


def make_dataset(page: Page, tmp_path: Path) -> None:
    page.goto("/t/atelier-ines/projects/new/")
    page.get_by_label("Name").fill("Icons")
    page.get_by_role("button", name="Make project").click()
    page.get_by_role("link", name=re.compile("New picture set|Make a picture set")).first.click()
    page.get_by_label("Name").fill("Ink 墨")
    page.get_by_role("button", name="Make picture set").click()
    pictures = sorted(INK.glob("*.png"))[:10]
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:200])
    files = [
        *pictures,
        *(p.with_suffix(".txt") for p in pictures),
        broken,
        picture_zip(tmp_path / "more.zip"),
    ]
    page.locator("input[type=file]").set_input_files([str(file) for file in files])
    expect(page.locator("#included")).to_contain_text(
        f"{len(list(INK.glob('*.png')))} pictures", timeout=SOON
    )
    rows = page.locator("[data-rows]")
    expect(rows.get_by_text("broken.png")).to_be_visible()
    expect(rows.get_by_text("evil.png")).to_be_visible()


def start_training(page: Page) -> None:
    page.get_by_role("button", name="Freeze version").click()
    expect(page.get_by_role("heading", name="New training")).to_be_visible()
    page.locator("input[name=template][value=style]").check()
    steps = page.get_by_role("spinbutton", name=re.compile("Steps"))
    steps.fill("16")
    steps.press("Tab")
    page.get_by_role("button", name="Start training").click()
    expect(page).to_have_url(re.compile(r"/trainings/trn_[0-9a-z]+/"))


def watch_to_the_end(page: Page) -> None:
    expect(page.locator("a[href*='/lora-files/']").first).to_be_visible(timeout=TRAINED)
    expect(page.get_by_text("Done", exact=True).first).to_be_visible()


def check_in_a_fresh_pipeline(file: Path) -> None:
    """Load the file as a stranger would, with diffusers alone, and look whether the picture changes."""
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        keys = list(opened.keys())
        metadata = opened.metadata()
    assert keys
    assert metadata["ss_network_module"] == "networks.lora"

    pipeline = StableDiffusionPipeline.from_pretrained(
        ROOT / "demo" / "base", safety_checker=None, torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    check_the_keys(keys, pipeline)

    def draw() -> np.ndarray:
        picture = pipeline(
            "a cat, ink style",
            num_inference_steps=12,
            height=64,
            width=64,
            generator=torch.Generator().manual_seed(7),
        ).images[0]
        return np.asarray(picture, dtype=np.float32)

    plain = draw()
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    styled = draw()
    assert np.abs(plain - styled).mean() > 2, "the LoRA changes nothing"


def check_the_keys(keys: list[str], pipeline: Any) -> None:
    """Each key names a layer that the base model has, and each layer has all its parts."""
    models = {"lora_unet_": pipeline.unet, "lora_te_text_model_": pipeline.text_encoder}
    layers = {
        prefix + name.removeprefix("text_model.").replace(".", "_")
        for prefix, model in models.items()
        for name, layer in model.named_modules()
        if hasattr(layer, "weight")
    }
    found: dict[str, set[str]] = {}
    for key in keys:
        layer, _dot, part = key.partition(".")
        found.setdefault(layer, set()).add(part)
    assert sorted(found.keys() - layers) == []
    assert {layer: parts for layer, parts in found.items() if parts != KOHYA_PARTS} == {}


def check_the_model_page(page: Page) -> None:
    page.get_by_role("link", name="See the model").click()
    expect(page.get_by_text("A1111 / Forge").first).to_be_visible()
    expect(page.get_by_text("Verified", exact=False).first).to_be_visible()


def check_the_mail(page: Page) -> None:
    page.goto("/dev/mail/")
    expect(page.locator("main").get_by_text("ines@example.org").first).to_be_visible(timeout=SOON)
