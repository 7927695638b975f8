"""Deformable registration of a pair: known warps are found, the network keeps its weights, figures are right."""

from __future__ import annotations

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch

from medseg.errors import InputError
from medseg.networks import ConditionalLapIRN
from medseg.progress import Progress
from medseg.registration import RegistrationOptions, SpatialTransform, register, write_report
from medseg.registration.instance import Objective, refine_field, refine_network
from medseg.registration.quality import likeness
from medseg.registration.working_grid import WorkingPair, smoothed, working_pair
from medseg.volumes import Geometry, Volume
from support.registration import a_head, a_smooth_warp, a_turn, distance, inner_points, moved


@pytest.fixture(scope="module")
def a_pair() -> tuple[Volume, Volume, SpatialTransform]:
    """A head, the same head warped by up to 9 mm, and the warp."""
    head = a_head()
    known = a_smooth_warp(head.geometry)
    return head, moved(head, known), known


@pytest.fixture
def a_working_pair(a_pair: tuple[Volume, Volume, SpatialTransform]) -> WorkingPair:
    fixed, moving, _ = a_pair
    return working_pair(fixed, moving, SpatialTransform(), spacing_mm=8.0, multiple=16)


def test_the_working_grid_is_filled_up_and_its_field_lies_where_the_volume_is(
    a_pair: tuple[Volume, Volume, SpatialTransform],
) -> None:
    fixed, moving, _ = a_pair
    pair = working_pair(fixed, moving, SpatialTransform(), spacing_mm=5.0, multiple=16)
    assert pair.fixed.shape == pair.moving.shape == pair.mask.shape == (1, 1, 48, 48, 32)
    field = pair.field(torch.ones(1, 3, *pair.fixed.shape[2:]))
    expected = fixed.geometry.with_spacing((5, 5, 5))
    assert field.geometry.is_close(expected)
    np.testing.assert_allclose(field.vectors, 5.0, atol=1e-4)
    k, j, i = pair.unpadded
    outside = pair.mask.clone()
    outside[:, :, i, j, k] = 0
    assert not outside.any()
    assert pair.mask[:, :, i, j, k].mean() > 0.95


def test_detail_that_coarse_voxels_cannot_hold_is_smoothed_away() -> None:
    stripes = np.zeros((32, 8, 8), np.float32)
    stripes[::2] = 1
    volume = Volume(stripes, Geometry.from_spacing(stripes.shape, (4, 4, 1)))
    assert smoothed(volume, 4.0).array[8:24].std() < 0.05
    assert np.array_equal(smoothed(volume, 1.0).array, stripes)


def test_nothing_to_compare_is_refused(a_pair: tuple[Volume, Volume, SpatialTransform]) -> None:
    fixed, moving, _ = a_pair
    with pytest.raises(InputError, match="shows nothing of what the fixed one"):
        working_pair(fixed, moving, a_turn(0, (900, 0, 0)), spacing_mm=8.0, multiple=16)


def test_the_weights_are_bit_for_bit_what_they_were(a_working_pair: WorkingPair) -> None:
    torch.manual_seed(0)
    network = ConditionalLapIRN(2)
    before = copy.deepcopy(network.state_dict())
    found = refine_network(network, a_working_pair, Objective(), iterations=(3, 2, 1), learning_rate=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert len(found.losses) == 1 + 6 + 1


def test_no_iterations_are_plain_inference(a_working_pair: WorkingPair) -> None:
    torch.manual_seed(0)
    network = ConditionalLapIRN(2)
    found = refine_network(network, a_working_pair, Objective(smoothness=0.3), iterations=(0, 0, 0))
    with torch.no_grad():
        expected = network(a_working_pair.fixed, a_working_pair.moving, 0.3)
    assert torch.equal(found.displacement, expected)


def test_a_stop_gives_the_best_so_far_and_the_weights_back(a_working_pair: WorkingPair) -> None:
    torch.manual_seed(0)
    network = ConditionalLapIRN(2)
    before = copy.deepcopy(network.state_dict())
    told: list[float] = []
    progress = Progress(lambda fraction, _text: told.append(fraction), lambda: len(told) >= 3)
    found = refine_network(network, a_working_pair, Objective(), iterations=(9, 9, 9), progress=progress)
    assert found.stopped
    assert len(found.losses) < 9
    assert torch.isfinite(found.displacement).all()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    start = torch.zeros(1, 3, *a_working_pair.fixed.shape[2:])
    told.clear()
    assert refine_field(start, a_working_pair, Objective(), progress=progress).stopped


def test_losses_of_different_grids_stand_apart(a_working_pair: WorkingPair) -> None:
    size = a_working_pair.fixed.shape[2:]
    start = torch.zeros(1, 3, *size)
    on_three_grids = refine_field(start, a_working_pair, Objective(), iterations=(3, 2, 1)).losses
    pieces = [len(list(piece)) for apart, piece in itertools.groupby(on_three_grids, math.isnan) if not apart]
    assert pieces == [1, 3, 2, 1 + 1], "the start and the end are measured on the full grid, as the last step is"
    on_one_grid = refine_field(start, a_working_pair, Objective(), iterations=(0, 0, 3)).losses
    assert len(on_one_grid) == 1 + 3 + 1
    assert all(map(math.isfinite, on_one_grid))
    assert on_one_grid[0] == on_three_grids[0]


@pytest.mark.parametrize("similarity", ["lncc", "nmi", "mind"])
@pytest.mark.parametrize("regulariser", ["diffusion", "bending", "implicit_elastic"])
def test_every_objective_has_a_gradient(a_working_pair: WorkingPair, similarity: str, regulariser: str) -> None:
    loss = Objective(similarity=similarity, regulariser=regulariser).on(a_working_pair)
    field = (0.3 * torch.randn(1, 3, *a_working_pair.fixed.shape[2:])).requires_grad_()
    loss(field).backward()
    assert torch.isfinite(field.grad).all()
    assert field.grad.abs().sum() > 0


def test_the_weights_of_an_objective_add_up(a_working_pair: WorkingPair) -> None:
    field = 0.5 * torch.randn(1, 3, *a_working_pair.fixed.shape[2:])
    alike, rough, both = (Objective(smoothness=s).on(a_working_pair)(field).item() for s in (0.0, 1.0, 0.4))
    assert both == pytest.approx(0.6 * alike + 0.4 * rough, rel=1e-4)


def test_a_known_warp_is_found_by_the_field(a_pair: tuple[Volume, Volume, SpatialTransform]) -> None:
    fixed, moving, known = a_pair
    result = register(fixed, moving, RegistrationOptions("field", device="cpu", spacing_mm=4.0, inverse=True))
    apart = distance(SpatialTransform(), known, fixed.geometry)
    assert apart > 4
    assert distance(result.transform, known, fixed.geometry) < 0.45 * apart
    assert result.quality.correlation_after > result.quality.correlation_before
    assert result.quality.deformation.folded_share < 0.001
    points = inner_points(fixed.geometry)
    away = np.linalg.norm(result.transform.apply(result.inverse.apply(points)) - points, axis=1)
    assert np.median(away) < 0.25  # a sixteenth of a voxel of the field
    assert away.max() < 1.5 * result.quality.inverse_error_mm
    assert result.warped.geometry == fixed.geometry


def test_a_network_fitted_to_the_pair_finds_it_too(a_pair: tuple[Volume, Volume, SpatialTransform]) -> None:
    fixed, moving, known = a_pair
    result = register(fixed, moving, RegistrationOptions("lapirn", device="cpu", spacing_mm=7.0))
    assert distance(result.transform, known, fixed.geometry) < 0.7 * distance(SpatialTransform(), known, fixed.geometry)
    assert result.losses[-1] < result.losses[0]


def test_labels_and_landmarks_are_measured_before_and_after(
    a_pair: tuple[Volume, Volume, SpatialTransform], tmp_path
) -> None:
    head, known = a_pair[0], a_turn(10, (8, 0, 0))
    labels = Volume((head.array > 0.25).astype(np.uint8), head.geometry)
    inverse = known.inverse(head.geometry)[0]
    points = inner_points(head.geometry)[:6]
    result = register(
        head,
        moved(head, known),
        RegistrationOptions("rigid", landmarks=(points, known.apply(points))),
        fixed_labels=labels,
        moving_labels=inverse.resample(labels, head.geometry, "nearest"),
    )
    figures = result.quality.labels[1]
    assert figures.dice_before < 0.9 < figures.dice_after
    assert np.mean(result.quality.landmark_errors_before_mm) > 5
    assert np.mean(result.quality.landmark_errors_after_mm) < 1
    write_report(tmp_path / "r.json", {"quality": result.quality.to_dict(), "nothing": math.nan})
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["quality"]["labels"]["1"]["dice_after"] == pytest.approx(figures.dice_after)
    assert content["nothing"] is None


def test_the_likeness_of_a_volume_with_itself_is_complete() -> None:
    head = a_head()
    everywhere = np.ones(head.shape, bool)
    correlation, information = likeness(head, head, everywhere)
    assert correlation == pytest.approx(1)
    noise = head.with_array(np.random.default_rng(0).normal(size=head.shape))
    assert information > 10 * likeness(head, noise, everywhere)[1]
    assert math.isnan(likeness(head, head, np.zeros(head.shape, bool))[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "magic"}, "no registration method 'magic'"),
        ({"refine": "long"}, "no effort 'long'"),
        ({"method": "lapirn", "refine": "none"}, "no trained weights"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        RegistrationOptions(**options)
