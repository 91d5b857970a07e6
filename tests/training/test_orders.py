"""Short work on a real engine, beside trainings: pictures, captions."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image

from billing.models import UsageEntry
from core.errors import PermissionDenied
from projects.models import Item, LoraVersion
from projects.services.items import edit_item
from tests.scenario import Scenario
from tests.training.engines import Shop, Studio, assert_whole, is_state, reached, wait_for, weights
from tests.training.queueing import attempts, events, fresh, statuses
from tests.training.rows import make_blob
from training.findings import Findings
from training.models import CaptionMode, QueueSettings, Sample, TrainingJob
from training.queue.room import make_room
from training.services.captioning import caption_items
from training.services.evaluations import evaluate_version
from training.services.generations import Use, create_generation

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def test_pictures_pass_a_training_which_ends_with_the_same_weights(studio: Studio, shop: Shop) -> None:
    """An order starts within seconds on the only worker, although a long training runs there."""
    QueueSettings.objects.create(pk=1, short_waits=0, short_if_free_within=0, least_run_for_short=0)
    shop.worker()
    quiet = studio.job(steps=20)
    wait_for(lambda: is_state(quiet, "succeeded"))
    version = LoraVersion.objects.for_team(quiet.team).get(training_uid=quiet.uid)
    hit = studio.job(steps=120, like=quiet)
    wait_for(lambda: reached(hit, 25))
    mixes = [[], [Use(version.uid)], [Use(version.uid, 0.5)]]
    order = create_generation(
        actor=studio.actor, prompts=["a cat", "a dog"], mixes=mixes, settings={"count": 2, "steps": 2}
    )
    asked = time.monotonic()
    wait_for(lambda: make_room() == 1, seconds=15)
    wait_for(lambda: is_state(order, "succeeded", "failed"), seconds=30)
    assert time.monotonic() - asked < 30
    assert statuses(order) == ["queued", "starting", "running", "finalizing", "succeeded"]
    drawn = Sample.objects.for_team(order.team).filter(job=order).order_by("prompt_index")
    assert list(drawn.values_list("prompt_index", "prompt", "seed", "with_lora")) == [
        (4 * mix + 2 * prompt + copy, ["a cat", "a dog"][prompt], 42 + copy, mix > 0)
        for mix in range(3)
        for prompt in range(2)
        for copy in range(2)
    ]
    assert len(set(drawn.values_list("blob__sha256", flat=True))) == 12
    assert (fresh(order).step, fresh(order).percent) == (12, 100)
    assert [seq for seq, _, _ in events(order)] == list(range(1, fresh(order).last_seq + 1))
    billed = UsageEntry.objects.for_team(order.team).get(job_uid=order.uid)
    assert (billed.kind, billed.useful) == ("generation", True)
    wait_for(lambda: is_state(hit, "succeeded", "failed"))
    assert [outcome for _, outcome in attempts(hit)] == ["yielded", "succeeded"]
    assert_whole(hit, 120)
    alone = studio.job(steps=120, like=hit)
    wait_for(lambda: is_state(alone, "succeeded", "failed"))
    assert weights(hit) == weights(alone)


def test_an_order_whose_engine_dies_goes_on_with_the_pictures_that_are_missing(
    studio: Studio, shop: Shop
) -> None:
    worker = shop.worker()
    order = create_generation(
        actor=studio.actor,
        prompts=["a cat"],
        base_model=studio.base,
        project=studio.version.dataset.project,
        settings={"count": 16, "steps": 100},
    )
    wait_for(lambda: fresh(order).step >= 4)
    before = list(Sample.objects.for_team(order.team).filter(job=order).values_list("uid", flat=True))
    worker.engine().kill()
    wait_for(lambda: is_state(order, "succeeded", "failed"))
    assert [outcome for _, outcome in attempts(order)] == ["crashed", "succeeded"]
    drawn = Sample.objects.for_team(order.team).filter(job=order)
    assert sorted(drawn.values_list("seed", flat=True)) == list(range(42, 58))
    assert set(before) <= set(drawn.values_list("uid", flat=True))
    assert (fresh(order).step, fresh(order).state) == (16, "succeeded")


def captioned(
    studio: Studio, count: int, *, size: tuple[int, int] = (96, 64)
) -> tuple[list[Item], TrainingJob]:
    """Put pictures of one colour each into the studio's set and order captions for all of them."""
    colours = [(200, 20, 20), (20, 40, 200), (255, 255, 255), (10, 10, 10), (40, 160, 60), (250, 220, 40)]
    dataset = studio.version.dataset
    items = []
    for number in range(count):
        buffer = io.BytesIO()
        picture = Image.new("RGB", size, colours[number % len(colours)])
        picture.putpixel((0, 0), (number % 256, number // 256, 7))  # the same content is in a set once
        picture.save(buffer, "PNG")
        blob = make_blob(studio.actor, content=buffer.getvalue())
        items.append(
            Item.objects.create(team=dataset.team, dataset=dataset, blob=blob, filename=f"{number}.png")
        )
    return items, caption_items(
        actor=studio.actor, dataset=dataset, captioner="colours", mode=CaptionMode.REPLACE
    )


def captions_of(items: list[Item]) -> list[str]:
    rows = Item.objects.for_team(items[0].team).filter(pk__in=[item.pk for item in items]).order_by("pk")
    return list(rows.values_list("caption", flat=True))


def test_captions_are_written_and_a_person_s_words_stay(people: Scenario, studio: Studio, shop: Shop) -> None:
    items, order = captioned(studio, 6)
    edit_item(actor=studio.actor, uid=items[1].uid, caption="my own words")
    edit_item(actor=studio.actor, uid=items[2].uid, excluded=True)
    shop.worker()
    wait_for(lambda: is_state(order, "succeeded", "failed"))
    assert captions_of(items) == [
        "red, low contrast, landscape format",
        "my own words",
        "",
        "black and white, dark, low contrast, landscape format",
        "green, low contrast, landscape format",
        "yellow, light, low contrast, landscape format",
    ]
    row = fresh(order)
    assert (row.state, row.phase, row.step) == ("succeeded", "", 5)
    assert statuses(order) == ["queued", "starting", "running", "finalizing", "succeeded"]
    assert [seq for seq, _, _ in events(order)] == list(range(1, row.last_seq + 1))
    outcomes = [data["outcome"] for _, kind, data in events(order) if kind == "caption"]
    assert outcomes == ["written", "kept", "written", "written", "written"]
    billed = UsageEntry.objects.for_team(order.team).get(job_uid=order.uid)
    assert (billed.kind, billed.useful) == ("captioning", True)
    with pytest.raises(PermissionDenied):
        caption_items(actor=people.bob, dataset=studio.version.dataset, captioner="colours")


def test_captions_whose_engine_dies_go_on_with_those_that_are_missing(studio: Studio, shop: Shop) -> None:
    worker = shop.worker()
    items, order = captioned(studio, 400, size=(1400, 1400))
    wait_for(lambda: fresh(order).step >= 16)
    worker.engine().kill()
    wait_for(lambda: is_state(order, "succeeded", "failed"))
    assert [outcome for _, outcome in attempts(order)] == ["crashed", "succeeded"]
    told = [data["item"] for _, kind, data in events(order) if kind == "caption"]
    assert sorted(told) == sorted(item.uid for item in items)
    assert all(captions_of(items))
    assert (fresh(order).step, fresh(order).state) == (400, "succeeded")


def test_every_file_of_a_version_is_measured_and_what_a_crash_left_is_not_drawn_again(
    studio: Studio, shop: Shop
) -> None:
    worker = shop.worker()
    training = studio.job(steps=20, checkpoint_every=10)
    wait_for(lambda: is_state(training, "succeeded"))
    version = LoraVersion.objects.for_team(training.team).get(training_uid=training.uid)
    prompts = ["a cat", "a dog", "a fox", "a hen"]
    order = evaluate_version(actor=studio.actor, version=version, prompts=prompts, seeds=4)
    slow = {**order.spec, "steps": 60}
    TrainingJob.jobs.for_team(order.team).filter(pk=order.pk, state="queued").update(spec=slow)
    wait_for(lambda: any(kind == "finding" for _, kind, _ in events(order)) and fresh(order).step >= 20)
    before = list(Sample.objects.for_team(order.team).filter(job=order).values_list("uid", flat=True))
    worker.engine().kill()
    wait_for(lambda: is_state(order, "succeeded", "failed"))
    assert [outcome for _, outcome in attempts(order)] == ["crashed", "succeeded"]
    drawn = Sample.objects.for_team(order.team).filter(job=order)
    assert sorted(drawn.values_list("prompt_index", flat=True)) == list(range(48))
    assert set(before) <= set(drawn.values_list("uid", flat=True))
    found = Findings.from_dict(fresh(order).evaluation or {})
    told = [data["step"] for _, kind, data in events(order) if kind == "finding"]
    assert told == [0, 10, 20]  # each once
    assert [(each.step, each.is_final, each.images) for each in found.files] == [
        (10, False, 16),
        (20, True, 16),
    ]
    assert all(each.style_distance is not None for each in (found.base, *found.files))
    assert found.base.content_score is not None
    billed = UsageEntry.objects.for_team(order.team).filter(job_uid=order.uid)
    assert {entry.kind for entry in billed} == {"evaluation"}
