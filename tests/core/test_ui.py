"""The tags and filters of the pages."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.template import Context, Template
from django.utils import timezone, translation
from django_cotton.compiler_regex import CottonCompiler

from core.templatetags.ui import duration, section_of, share, tone, when


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (754, "13 min"),
        (3900, "1 h 05 min"),
        (200_000, "2 days"),
        (None, ""),
    ],
)
def test_a_duration_is_said_in_at_most_two_units(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "most", "percent"), [(1, 3, 33), (5, 4, 100), (-1, 4, 0), (1, 0, 0), (None, 4, 0)]
)
def test_a_share_is_a_percentage_that_stays_within_its_bar(value: object, most: object, percent: int) -> None:
    assert share(value, most) == percent


@pytest.mark.parametrize(
    ("view", "section"),
    [
        ("training:home", "home"),
        ("training:job", "trainings"),
        ("projects:dataset", "projects"),
        ("projects:model_list", "models"),
        ("training:foundation_list", "foundations"),
        ("accounts:api_key_list", "settings"),
        ("core:mail_list", ""),
    ],
)
def test_the_rail_marks_the_part_that_a_page_belongs_to(view: str, section: str) -> None:
    assert section_of(view) == section


def test_times_are_relative_with_the_exact_one_beside() -> None:
    with translation.override("en"):
        past, soon = (
            timezone.now() - timedelta(hours=3, minutes=2),
            timezone.now() + timedelta(days=2, hours=1),
        )
        assert "3\xa0hours ago</time>" in when(past)
        assert "in 2\xa0days</time>" in when(soon)
        assert f'datetime="{past.isoformat()}"' in when(past)
        assert when(None) == ""


def test_every_state_of_a_job_has_a_tone_of_its_own_kind() -> None:
    from training.states import JobState

    tones = {state: tone(state) for state in JobState}
    assert tones[JobState.QUEUED] == "queued"
    assert tones[JobState.RUNNING] == "running"
    assert tones[JobState.SUCCEEDED] == "succeeded"
    assert tones[JobState.FAILED] == "failed"
    assert tones[JobState.CANCELED] == "canceled"


def test_an_icon_is_decoration_unless_it_is_named() -> None:
    render = Template("{% icon 'play' %}|{% icon 'play' 'big' label=words %}").render(
        Context({"words": "<Start>"})
    )
    plain, named = render.split("|")
    assert 'aria-hidden="true"' in plain
    assert 'role="img" aria-label="&lt;Start&gt;"' in named
    assert 'class="icon big"' in named


def test_a_slider_marks_the_recommended_value_and_ties_its_words_to_the_field() -> None:
    source = (
        '<c-slider name="rank" label="Rank" :min="4" :max="128" :step="4" :value="16" '
        ':recommended="24" reason="Because." />'
    )
    html = Template(CottonCompiler().process(source)).render(Context())
    assert "--min: 4; --max: 128; --value: 16; --recommended: 24" in html
    assert 'data-recommended="24"' in html
    assert 'aria-describedby="id_rank_note"' in html
    assert "Because." in html
