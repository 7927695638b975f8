"""The mean of several volumes: sharp when they are brought together, and without those that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import Cancelled, InputError, ReadError
from medseg.progress import Progress
from medseg.registration import RegistrationOptions
from medseg.registration.groupwise import mean_image
from medseg.volumes import Volume
from support.registration import a_head, a_turn, moved

TURNS = (a_turn(8, (6, -5, 3)), a_turn(-6, (-4, 6, 2)))
RIGID = RegistrationOptions("rigid")


@pytest.fixture(scope="module")
def some_heads() -> list[Volume]:
    """A head, and the same head turned in two ways with another gain."""
    head = a_head((24, 28, 26), (6.0, 6.0, 6.0))
    others = [moved(head, turn) for turn in TURNS]
    return [head, others[0].with_array(3 * others[0].array + 5), others[1]]


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_the_mean_is_the_head_where_the_first_one_lies(some_heads: list[Volume]) -> None:
    head = some_heads[0]
    found = mean_image([lambda volume=volume: volume for volume in some_heads], RIGID, rounds=2)
    assert found.left_out == ()
    assert found.volume.geometry == head.geometry
    blurred = head.array + sum(volume.resample(head.geometry).array for volume in some_heads[1:])
    assert likeness(found.volume.array, head.array) > 0.97 > likeness(blurred, head.array) + 0.02
    # Another gain does not count more.
    assert np.percentile(found.volume.array, 99) == pytest.approx(np.percentile(head.array, 99), abs=0.08)


def test_numbers_of_a_ct_are_not_scaled(some_heads: list[Volume]) -> None:
    head = Volume(1000 * some_heads[0].array, some_heads[0].geometry, modality="CT")
    brighter = head.with_array(head.array + 200)
    found = mean_image([lambda: head, lambda: brighter], RIGID, rounds=1)
    inside = head.array > 300
    assert np.median(found.volume.array[inside] - head.array[inside]) == pytest.approx(100, abs=10)
    assert found.volume.modality == "CT"


def test_a_volume_that_cannot_be_used_is_left_out_and_named(some_heads: list[Volume]) -> None:
    def missing() -> Volume:
        raise ReadError("There is no file x.")

    flat = some_heads[0].with_array(np.zeros(some_heads[0].shape))
    found = mean_image([lambda: some_heads[0], missing, lambda: some_heads[2], lambda: flat], RIGID, rounds=1)
    assert len(found.left_out) == 2
    assert "There is no file x." in found.left_out[0]
    assert "All voxels of the moving volume" in found.left_out[1]
    with pytest.raises(InputError, match=r"Fewer than two .* There is no file x"):
        mean_image([lambda: some_heads[0], missing], RIGID)
    with pytest.raises(ReadError):
        mean_image([missing, lambda: some_heads[0]], RIGID)
    with pytest.raises(InputError, match="0 rounds"):
        mean_image([lambda: some_heads[0]], RIGID, rounds=0)


def test_the_first_volume_is_read_once_and_the_others_in_every_round(some_heads: list[Volume]) -> None:
    read: list[int] = []
    readers = [lambda number=number: read.append(number) or some_heads[number] for number in (0, 1)]
    mean_image(readers, RIGID, rounds=2)
    assert read == [0, 1, 1]


def test_a_mean_can_be_cancelled(some_heads: list[Volume]) -> None:
    told: list[float] = []
    progress = Progress(lambda fraction, _text: told.append(fraction), lambda: len(told) > 3)
    with pytest.raises(Cancelled):
        mean_image([lambda volume=volume: volume for volume in some_heads], RIGID, progress=progress)
