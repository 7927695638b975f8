"""The per-case tool: thin labels on exactly the thin grid, whatever it is, and what the user is told."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from medseg.errors import Cancelled, GeometryError, InputError
from medseg.metrics import dice
from medseg.progress import Progress
from medseg.training.thin_thick import TransferOptions, measure_agreement, thick_copy, transfer, write_agreement_csv
from medseg.training.thin_thick.case import make_case
from medseg.training.thin_thick.guided import Schedule, fit_guided
from medseg.training.thin_thick.shapes import LabelShapes
from medseg.volumes import Geometry, Volume

FEW = {"steps": 12, "device": "cpu"}


def a_case(geometry: Geometry | None = None, factor: int = 4) -> tuple[Volume, np.ndarray, Volume]:
    """Return a thin image with two bright bodies (values 3 and 9), their thin labels, and their thick labels."""
    geometry = geometry or Geometry.from_spacing((30, 44, 40), (1.0, 1.1, 1.0), (10.0, -20.0, 5.0), "LPS")
    k, j, i = np.indices(geometry.shape)
    truth = np.zeros(geometry.shape, np.uint8)
    truth[((k - 13) / 9.5) ** 2 + ((j - 16) / 10.0) ** 2 + ((i - 13) / 8.0) ** 2 < 1] = 3
    truth[np.hypot(j - 34 + 0.3 * k, i - 26 - 0.2 * k) < 4.2] = 9
    noise = np.random.default_rng(0).normal(0, 25, geometry.shape)
    thin = Volume((noise + 100 * (truth == 3) + 220 * (truth == 9)).astype(np.int16), geometry)
    return thin, truth, drawn(thin, truth, factor)


def drawn(thin: Volume, truth: np.ndarray, factor: int) -> Volume:
    """Return the labels that more than half of each thick voxel has."""
    copy = thick_copy(thin, factor=factor)
    labels = np.zeros(copy.shape, np.uint8)
    for value in (3, 9):
        labels[thick_copy(thin.with_array(truth == value), factor=factor).array > 0.5] = value
    return Volume(labels, copy.geometry)


def staircase(labels: Volume, factor: int, slices: int) -> np.ndarray:
    steps = np.repeat(labels.array, factor, axis=0)
    return np.pad(steps, [(0, slices - len(steps)), (0, 0), (0, 0)])


def mean_dice(found: np.ndarray, truth: np.ndarray) -> float:
    return (dice(found == 3, truth == 3) + dice(found == 9, truth == 9)) / 2


@pytest.mark.parametrize("method", ["shape", "guided", "joint"])
def test_the_result_lies_on_exactly_the_thin_grid(method: str) -> None:
    thin, _, labels = a_case()
    result = transfer(thin, labels, TransferOptions(method=method, **FEW))
    assert result.labelmap.geometry == thin.geometry
    assert result.labelmap.array.dtype == np.uint8
    assert set(np.unique(result.labelmap.array)) <= {0, 3, 9}
    assert result.values == (3, 9)
    assert set(result.timings) == {"prepare", "train", "apply", "total"}
    assert result.device == "cpu"


def test_shapes_between_slices_beat_the_staircase() -> None:
    thin, truth, labels = a_case()
    found = transfer(thin, labels, TransferOptions(method="shape")).labelmap.array
    assert mean_dice(found, truth) > mean_dice(staircase(labels, 4, 30), truth) + 0.02


def test_the_image_makes_the_shapes_better() -> None:
    thin, truth, labels = a_case(factor=6)
    shape = transfer(thin, labels, TransferOptions(method="shape")).labelmap.array
    guided = transfer(thin, labels, TransferOptions(steps=60, device="cpu")).labelmap.array
    assert mean_dice(guided, truth) > mean_dice(shape, truth)


def test_what_was_drawn_is_kept_in_more_than_half_of_the_slices() -> None:
    thin, _, labels = a_case()
    for method in ("shape", "guided"):
        found = transfer(thin, labels, TransferOptions(method=method, **FEW)).labelmap.array[:28]
        groups = found.reshape(7, 4, *found.shape[1:])
        for value in (3, 9):
            assert ((groups == value).mean(1)[labels.array == value] > 0.5).all()
        assert ((groups > 0).mean(1)[labels.array == 0] <= 0.5).all()


def test_the_same_seed_gives_the_same_labels() -> None:
    thin, _, labels = a_case()
    first, second = (transfer(thin, labels, TransferOptions(**FEW)).labelmap.array for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_another_seed_gives_another_network_and_leaves_the_callers_random_numbers_alone() -> None:
    thin, _, labels = a_case()
    case = make_case(thin, labels, 15.0)
    shapes = LabelShapes(case.drawn, (1, 2), case.thick_spacing)
    before = torch.random.get_rng_state()
    weights = [
        fit_guided(case, shapes, Schedule(steps=2, batch=2, patch=16, seed=seed))[0].network.head.weight
        for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def turned(axes: str) -> Geometry:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0.96, -0.28, 0.1], [0.28, 0.96, 0.05], [-0.1, 0.0, 0.99]]) * (1.0, 1.1, 1.0)
    matrix[:3, 3] = (31.0, -12.0, 7.0)
    return Geometry((30, 44, 40), matrix).reoriented(axes)


@pytest.mark.parametrize("axes", ["RAS", "SPL", "AIR"])
def test_oblique_and_turned_volumes_give_the_same_labels(axes: str) -> None:
    """The slices stay what they are in the patient: k of the first grid becomes another axis of the turned one."""
    thin, _, labels = a_case(turned("RAS"))
    expected = transfer(thin, labels, TransferOptions(method="shape")).labelmap
    again = transfer(thin.reorient(axes), labels.reorient(axes), TransferOptions(method="shape")).labelmap
    assert again.geometry.is_close(thin.geometry.reoriented(axes))
    # Flipped slices swap which end of a shape is met first, which decides ties.
    assert (again.reorient("RAS").array == expected.array).mean() > 0.999


def test_labels_cropped_to_what_was_drawn_give_the_same_result() -> None:
    thin, _, labels = a_case()
    used = np.argwhere(labels.array)
    cropped = labels.crop(used.min(0).tolist(), (used.max(0) + 1).tolist())
    options = TransferOptions(method="shape")
    whole, part = (transfer(thin, each, options) for each in (labels, cropped))
    np.testing.assert_array_equal(whole.labelmap.array, part.labelmap.array)
    assert whole.agreement == part.agreement


def test_the_agreement_is_that_of_the_labelmap_with_what_was_drawn(tmp_path) -> None:
    thin, _, labels = a_case()
    result = transfer(thin, labels, TransferOptions(method="shape"))
    row = next(row for row in result.agreement if row.thick_slice == 3 and row.value == 9)
    assert (row.first_thin, row.last_thin) == (12, 15)
    mean = (result.labelmap.array[12:16] == 9).mean(0)
    mask = labels.array[3] == 9
    assert row.drawn_voxels == mask.sum()
    assert row.dice == pytest.approx(2 * (mean * mask).sum() / (mean.sum() + mask.sum()))
    assert row.mean_difference == pytest.approx(np.abs(mean - mask)[(mean > 0) | mask].mean())
    assert measure_agreement(result.labelmap, labels) == result.agreement
    write_agreement_csv(tmp_path / "rows.csv", result.agreement)
    with (tmp_path / "rows.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert len(written) == len(result.agreement)
    assert float(written[0]["dice"]) == pytest.approx(result.agreement[0].dice, abs=1e-4)


def test_the_slice_that_agrees_least_is_named() -> None:
    thin, _, labels = a_case()
    # A network that has hardly learnt finds next to nothing.
    result = transfer(thin, labels, TransferOptions(method="joint", **FEW))
    assert any("agrees least with what was drawn on thick slice" in notice for notice in result.notices)
    assert not transfer(thin, labels, TransferOptions(method="shape")).notices


def test_labels_on_too_few_slices_are_interpolated_without_learning() -> None:
    thin, _, labels = a_case()
    thin = thin.crop((8, 0, 0), (16, 44, 40))
    labels = labels.crop((2, 0, 0), (4, 44, 40))
    result = transfer(thin, labels, TransferOptions(**FEW))
    assert any("too few thick slices" in notice for notice in result.notices)
    assert result.labelmap.array.any()


def test_a_training_that_takes_too_long_is_ended_and_told() -> None:
    thin, _, labels = a_case()
    result = transfer(thin, labels, TransferOptions(steps=100_000, seconds=0.5, device="cpu"))
    assert any("Learning was stopped after" in notice for notice in result.notices)
    assert result.timings["train"] < 30


def test_cancelling_stops_at_the_next_step() -> None:
    thin, _, labels = a_case()
    seen: list[str] = []
    progress = Progress(lambda _fraction, text: seen.append(text), lambda: any("step 3" in text for text in seen))
    with pytest.raises(Cancelled):
        transfer(thin, labels, TransferOptions(steps=10_000, device="cpu"), progress=progress)
    assert len([text for text in seen if "step" in text]) <= 4


def test_progress_rises_to_the_end() -> None:
    thin, _, labels = a_case()
    fractions: list[float] = []
    transfer(
        thin, labels, TransferOptions(**FEW), progress=Progress(lambda fraction, _text: fractions.append(fraction))
    )
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_values_beyond_a_byte_are_kept() -> None:
    thin, _, labels = a_case()
    result = transfer(thin, labels.with_array(labels.array.astype(np.uint16) * 100), TransferOptions(method="shape"))
    assert result.labelmap.array.dtype == np.uint16
    assert set(np.unique(result.labelmap.array)) == {0, 300, 900}


def test_what_cannot_be_transferred_is_refused_with_a_sentence() -> None:
    thin, truth, labels = a_case()
    with pytest.raises(GeometryError, match="lie on the thin slices already"):
        transfer(thin, Volume(truth, thin.geometry))
    with pytest.raises(InputError, match="are empty"):
        transfer(thin, labels.with_array(np.zeros_like(labels.array)))
    with pytest.raises(InputError, match="not whole numbers"):
        transfer(thin, labels.astype(np.float32))
    with pytest.raises(InputError, match="looks like a label map"):
        transfer(Volume(truth, thin.geometry), labels)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "magic"},
        {"interpolation": "quintic"},
        {"steps": 0},
        {"seconds": 0.0},
        {"weights": (0, 0, 1)},
        {"weights": (1, 1)},
        {"margin_mm": -1.0},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError):
        TransferOptions(**wrong)
