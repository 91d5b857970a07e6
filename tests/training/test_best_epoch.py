"""Which file is recommended, for figures made for the purpose."""

from __future__ import annotations

import pytest

from training.advisor.best_epoch import BestEpoch, Verdict, best_epoch, content_noise
from training.findings import Finding, Findings

Figures = tuple[float | None, float | None]


def advice(*files: Figures, base: Figures = (2.0, 1.0), images: int = 8) -> BestEpoch:
    """Advise on files of 100, 200, ... steps; each is (style distance, content score)."""
    found = tuple(
        Finding(f"lrf_{n}", f"{n}.safetensors", 100 * n, n, n == len(files), style, content, images)
        for n, (style, content) in enumerate(files, start=1)
    )
    return best_epoch(Findings("mdv_1", Finding("", "", 0, 0, False, *base, images), found))


def step(found: BestEpoch) -> int | None:
    return found.file.step if found.file else None


def test_the_closest_file_that_still_follows_prompts_wins_and_overfitting_is_named() -> None:
    found = advice((1.5, 1.0), (1.0, 1.0), (0.6, 0.5), (0.4, 0.25))
    assert (step(found), found.verdict) == (200, Verdict.BEST)
    assert found.reason == (
        "It is as close to your pictures as any file that still follows prompts, and the earliest of these."
    )
    assert found.warning == (
        "From step 300 on prompts are followed less (50% instead of 100%): the training has gone on for too long."
    )


def test_the_last_file_wins_where_every_step_helped() -> None:
    found = advice((1.5, 1.0), (1.0, 1.0), (0.5, 0.875))
    assert (step(found), found.warning) == (300, "")
    assert found.reason == (
        "It is the closest to your pictures, and prompts are still followed. It may gain from more steps."
    )


@pytest.mark.parametrize(
    ("second", "expected"),
    [(1.0, 100), (0.95, 100), (0.9, 100), (0.85, 200), (1.2, 100)],
)
def test_the_earlier_of_two_equal_files_wins(second: float, expected: int) -> None:
    """Less than a tenth of the way from the base (2.0) to the closest is noise."""
    assert step(advice((1.0, 1.0), (second, 1.0))) == expected


@pytest.mark.parametrize(("content", "expected"), [(0.75, 200), (0.74, 100)])
def test_three_quarters_of_the_base_s_content_are_enough(content: float, expected: int) -> None:
    assert step(advice((1.5, 1.0), (0.5, content))) == expected
    assert step(advice((1.5, 0.8), (0.5, content * 0.8), base=(2.0, 0.8))) == expected


def test_one_picture_less_is_no_overfitting() -> None:
    assert advice((0.5, 1.0), (0.5, 0.875)).warning == ""
    assert advice((0.5, 1.0), (0.5, 0.75)).warning != ""
    # of 64 pictures two are more than chance when all others are right
    assert advice((0.5, 1.0), (0.5, 0.96875), images=64).warning != ""


def test_the_noise_of_a_score_is_a_standard_error_but_at_least_one_picture() -> None:
    assert content_noise(8, 1.0) == 0.125
    assert content_noise(4, 0.5) == 0.25
    assert content_noise(16, 0.5) == 0.125
    assert content_noise(100, 0.5) == pytest.approx(0.05)


def test_one_file_is_the_only_one() -> None:
    found = advice((1.0, 1.0))
    assert (step(found), found.verdict, found.warning) == (100, Verdict.BEST, "")
    assert found.reason == "It is the only file. It shows the style, and prompts are still followed."


@pytest.mark.parametrize("files", [[(1.9, 1.0), (1.8, 1.0)], [(2.5, 0.1)], [(1.81, None)]])
def test_no_file_is_recommended_where_none_learned_the_style(files: list[Figures]) -> None:
    found = advice(*files)
    assert (found.file, found.verdict) == (None, Verdict.NOT_LEARNED)
    assert found.reason.endswith("Train for more steps or with a higher learning rate.")


def test_where_all_lost_the_content_the_least_lost_is_named_with_a_warning() -> None:
    found = advice((0.9, 0.25), (0.5, 0.5), (0.3, 0.5))
    assert (step(found), found.verdict) == (200, Verdict.LOST_CONTENT)
    assert found.warning.startswith("No file shows the style and still follows prompts.")


def test_a_file_that_did_not_learn_is_not_recommended_for_its_content() -> None:
    assert step(advice((1.95, 1.0), (0.5, 0.5))) == 200


def test_without_content_the_style_decides_and_that_is_said() -> None:
    found = advice((1.0, None), (0.5, None), (0.5, None), base=(2.0, None))
    assert (step(found), found.verdict) == (200, Verdict.ONLY_STYLE)
    assert found.warning == (
        "Whether prompts are still followed could not be measured; it takes two different prompts."
    )


def test_without_the_set_the_latest_file_that_follows_prompts_is_taken() -> None:
    found = advice((None, 1.0), (None, 0.875), (None, 0.5), base=(None, 1.0))
    assert (step(found), found.verdict) == (200, Verdict.ONLY_CONTENT)
    lost = advice((None, 0.5), (None, 0.25), base=(None, 1.0))
    assert (step(lost), lost.reason) == (100, "No file follows prompts well; it does so most.")


def test_without_any_figure_nothing_is_recommended() -> None:
    for found in (advice((None, None), base=(None, None)), advice(), advice((1.0, 1.0), images=0)):
        assert (found.file, found.verdict, found.reason) == (
            None,
            Verdict.UNKNOWN,
            "Nothing could be measured.",
        )


def test_a_missing_base_style_does_not_hide_the_files() -> None:
    assert step(advice((1.0, 1.0), (0.5, 1.0), base=(None, 1.0))) == 200


def test_files_that_were_not_measured_yet_are_left_out() -> None:
    found = Findings("mdv_1", Finding(), (Finding("a", "a", 1), Finding("b", "b", 2)))
    found = found.with_figures("", 2.0, 1.0, 8).with_figures("a", 1.0, 1.0, 8)
    assert Findings.from_dict(found.to_dict()) == found
    assert found.told == ["", "a"]
    assert step(best_epoch(found)) == 1
