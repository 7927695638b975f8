"""The claim of PE-MED: its images, its measures, and that its machinery runs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.claims import pe_med
from benchmarks.claims.pe_med import ALL, ARMS, BASELINE, LOOP, MEMORY, PALM, QUICK, WALKER, Job, Result, Setup


def a_result(arm: str, seed: int, *scores: float) -> Result:
    """One image with these Dice coefficients, the last one until the tenth click."""
    return Result(Job(QUICK, arm, seed), np.array([[*scores, *[scores[-1]] * (10 - len(scores))]]))


def results_of(**scores: tuple[float, ...]) -> dict[str, list[Result]]:
    """Two seeds of every arm, all alike but for those that are named."""
    names = {"none": BASELINE, "loop": LOOP, "palm": PALM, "memory": MEMORY, "all": ALL}
    given = {names[name]: values for name, values in scores.items()}
    return {arm: [a_result(arm, seed, *given.get(arm, (0.5, 0.6, 0.7))) for seed in (0, 1)] for arm in (WALKER, *ARMS)}


def test_the_image_alone_does_not_tell_which_blob_is_meant() -> None:
    images, truths = pe_med.blobs(np.random.default_rng(0), 20, 96)
    assert images.shape == truths.shape == (20, 1, 96, 96)
    for image, truth in zip(images[:, 0].numpy(), truths[:, 0].numpy() > 0, strict=True):
        assert 12 <= truth.sum() < 0.2 * truth.size
        # Besides the target there are others of its brightness, which together are larger.
        assert (image[~truth] > image[truth].mean() - 0.1).sum() > truth.sum()


def test_arms_of_a_seed_see_the_same_images() -> None:
    first, second = (pe_med.blobs(np.random.default_rng((3, 2)), 2, 32) for _ in range(2))
    assert all((one == other).all() for one, other in zip(first, second, strict=True))


def test_clicks_to_a_goal_count_at_most_ten() -> None:
    result = Result(Job(QUICK, ALL, 0), np.array([[0.5, 0.86] + [0.9] * 8, [0.1] * 10]))
    assert result.clicks_to(0.85) == (2 + 10) / 2
    assert result.after(2) == pytest.approx(0.48)


def test_the_unrest_is_the_spread_of_the_changes() -> None:
    assert a_result(ALL, 0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4).unrest == pytest.approx(0)
    assert a_result(ALL, 0, 0.5, 0.8, 0.5, 0.8).unrest > 0.1


def test_the_claims_hold_where_they_should() -> None:
    good = results_of(all=(0.6, 0.7, 0.8), loop=(0.6, 0.65, 0.72), memory=(0.5, 0.55, 0.6, 0.65, 0.7))
    verdict = pe_med.verdict_of(good)
    assert "together are above none" in verdict
    assert "does help most at the first click" in verdict
    assert "does make answers steadier" in verdict
    assert "Self-Loop +0.100, +0.050, +0.020, +0.020" in verdict


def test_the_claims_do_not_hold_where_nothing_is_gained() -> None:
    verdict = pe_med.verdict_of(results_of(loop=(0.52, 0.65, 0.75)))
    assert "together are not above none" in verdict
    assert "does not help most at the first click" in verdict
    assert "does not make answers steadier" in verdict


def test_the_random_walker_finds_a_blob_that_stands_alone() -> None:
    image = np.zeros((32, 32), np.float32)
    image[8:20, 10:22] = 1
    scores = pe_med.walked(image + np.random.default_rng(0).normal(0, 0.02, image.shape), image > 0)
    assert scores.shape == (10,)
    assert scores[-1] > 0.95


def test_the_whole_claim_runs_in_small() -> None:
    report = pe_med.run(quick=True, seeds=1, threads=1)
    assert "A quick run" in report.verdict
    assert [row[0] for row in report.rows] == [WALKER, *ARMS]
    assert "Dice, 1 click" in report.markdown()


def test_the_arms_differ_by_the_parts_that_they_name() -> None:
    setup = Setup()
    networks = {arm: pe_med.new_network(arm, setup) for arm in ARMS}
    assert [networks[arm].has_palm for arm in ARMS] == [False, False, True, False, True, True]
    assert [networks[arm].memory is not None for arm in ARMS] == [False, False, False, True, True, False]
    short_cuts = [network.inner.short_cuts for network in networks.values() if network.inner is not None]
    assert short_cuts == [True, True, False]
