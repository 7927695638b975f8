"""Linear alignment: known transforms are found again, and what cannot be aligned is refused."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.registration.cases import coarser
from benchmarks.registration.measure import measure
from benchmarks.registration.painted import painted_pair
from medseg.errors import Cancelled, InputError
from medseg.progress import Progress
from medseg.registration import AlignmentOptions, SpatialTransform, align, alignment, from_landmarks
from medseg.registration.starts import Judge, better_start
from medseg.volumes import Geometry, Volume, read_labelmap
from support.registration import a_head, a_smooth_warp, a_turn, distance, inner_points, moved

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("metric", ["mutual_information", "correlation"])
def test_a_known_turn_and_shift_are_found(metric: str) -> None:
    head, known = a_head(), a_turn(9, (8, -6, 5))
    found = align(head, moved(head, known), AlignmentOptions("rigid", metric=metric))
    assert distance(SpatialTransform(), known, head.geometry) > 8
    assert distance(found, known, head.geometry) < 0.5


def test_mutual_information_aligns_an_inverted_contrast() -> None:
    head, known = a_head(), a_turn(6, (-6, 4, 3))
    other = moved(head, known)
    found = align(head, other.with_array(1 - other.array), AlignmentOptions("rigid"))
    assert distance(found, known, head.geometry) < 1.0


def test_an_affine_alignment_finds_a_stretch() -> None:
    head = a_head()
    known = SpatialTransform((np.diag([1.1, 0.92, 1.05, 1.0]),))
    assert distance(align(head, moved(head, known)), known, head.geometry) < 1.0


@pytest.mark.parametrize("contrast", ["T1", "T2"])
def test_heads_that_are_cut_at_different_heights_are_not_stretched_over_each_other(
    shared_data: Path, contrast: str
) -> None:
    paths = [shared_data / "brain-labels" / f"brain_labels_{number}.nii.gz" for number in (10, 13)]
    fixed, moving = (coarser(read_labelmap(path), 4.0, labels=True) for path in paths)
    pair = painted_pair(fixed, moving, ("T1", contrast), 1)
    found = align(pair.fixed, pair.moving)
    dice = measure(found, pair).dice
    assert sum(dice.values()) / len(dice) > 0.35


def test_an_alignment_that_makes_things_worse_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = a_head()
    moving = moved(fixed, a_turn(6, (4, -3, 5)))
    rigid = align(fixed, moving, AlignmentOptions("rigid"))
    optimised = alignment._optimised

    def astray(images, start, freedom, *rest, **more):
        away = np.diag([1.6, 1.6, 1.6, 1.0])
        return SpatialTransform((away,)) if freedom == "affine" else optimised(images, start, freedom, *rest, **more)

    monkeypatch.setattr(alignment, "_optimised", astray)
    assert distance(align(fixed, moving), rigid, fixed.geometry) < 1e-3


def test_where_else_to_begin_is_told_only_when_it_is_more_alike() -> None:
    head = a_head()
    middle = np.array(head.geometry.center_ras)
    about_the_corner = a_turn(20, (0, 0, 0))
    far = a_turn(20, tuple(middle - about_the_corner.apply(middle[None])[0] + [0, 0, 25]))
    judge = Judge(head, moved(head, far), None, "mutual_information", coarse=True)
    start = SpatialTransform()
    found = better_start(judge, start, start)
    assert found is not None
    assert judge.alike(found) > judge.alike(start)
    assert distance(found, far, head.geometry) < 15
    assert better_start(judge, far, start) is None


def test_the_same_seed_gives_the_same_transform() -> None:
    head = a_head()
    other = moved(head, a_turn(4, (3, 3, 3)))
    first, second = (align(head, other, AlignmentOptions("rigid", seed=3)).matrix for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-5)  # threads add in an order of their own


def test_volumes_in_different_places_meet_by_their_centres_or_from_a_given_start() -> None:
    head = a_head()
    far = Geometry(head.shape, a_turn(0, (500, 0, 0)).matrix @ head.geometry.ijk_to_ras)
    away, known = Volume(head.array, far), a_turn(0, (500, 0, 0))
    assert distance(align(head, away, AlignmentOptions("none")), known, head.geometry) < 1e-6
    assert distance(align(head, away, AlignmentOptions("none", "moments")), known, head.geometry) < 1e-6
    given = AlignmentOptions("rigid", "given", initial=a_turn(3, (495, 4, 0)))
    assert distance(align(head, away, given), known, head.geometry) < 0.5
    with pytest.raises(InputError, match="do not overlap"):
        align(head, away, AlignmentOptions("rigid", "given", initial=SpatialTransform()))


def test_a_mask_says_what_is_compared() -> None:
    head, known = a_head(), a_turn(5, (5, 0, 0))
    other = moved(head, known)
    spoiled = other.array.copy()
    spoiled[:12] = np.random.default_rng(1).uniform(
        0, 2, spoiled[:12].shape
    )  # something the fixed volume does not show
    mask = np.zeros(head.shape, np.uint8)
    mask[16:] = 1
    found = align(head, other.with_array(spoiled), AlignmentOptions("rigid"), fixed_mask=Volume(mask, head.geometry))
    assert distance(found, known, head.geometry) < 0.7


def test_what_cannot_be_aligned_is_refused_in_a_sentence() -> None:
    head = a_head()
    flat, bad = head.with_array(np.full(head.shape, 3.0)), head.with_array(np.full(head.shape, np.nan))
    for pair, words in (((flat, head), "All voxels of the fixed volume"), ((head, flat), "of the moving volume")):
        with pytest.raises(InputError, match=words):
            align(*pair)
    with pytest.raises(InputError, match="not finite"):
        align(head, bad)
    outside = Volume(np.ones((3, 3, 3), np.uint8), Geometry.from_spacing((3, 3, 3), (1, 1, 1), origin=(900, 900, 900)))
    with pytest.raises(InputError, match="mask of the fixed volume marks nothing"):
        align(head, head, fixed_mask=outside)
    with pytest.raises(InputError, match="linear transform only"):
        AlignmentOptions(start="given", initial=a_smooth_warp(head.geometry))
    with pytest.raises(InputError, match="No transform to begin with"):
        AlignmentOptions(start="given")


def test_an_alignment_can_be_cancelled() -> None:
    head = a_head()
    asked: list[float] = []
    progress = Progress(lambda fraction, _text: asked.append(fraction), lambda: len(asked) > 3)
    with pytest.raises(Cancelled):
        align(head, moved(head, a_turn(9, (8, 0, 0))), AlignmentOptions("rigid"), progress=progress)


def test_a_stack_of_few_slices_is_refused_in_a_sentence() -> None:
    head = a_head()
    geometry = head.geometry.cropped((9, 0, 0), (12, *head.shape[1:]))
    stack = Volume(head.array[9:12], geometry)
    for pair in ((stack, head), (head, stack)):
        with pytest.raises(InputError, match="3 voxels; an alignment takes at least 4"):
            align(*pair, AlignmentOptions("rigid"))


def test_a_thin_slab_of_fine_slices_keeps_as_many_as_smoothing_takes() -> None:
    head = a_head((9, 48, 44), (4.0, 4.0, 0.3))
    image, mask = alignment._shrunk(head, head.with_array((head.array > 0.3).astype(np.uint8)))
    assert image.GetSize() == mask.GetSize() == (44, 48, 4)
    assert alignment._shrunk(a_head((30, 48, 44), (0.5, 0.5, 0.5)), None)[0].GetSize() == (14, 16, 10)


def test_looking_around_can_be_cancelled() -> None:
    head = a_head()
    judge, start, asked = Judge(head, head, None, "correlation"), SpatialTransform(), []
    progress = Progress(lambda fraction, _text: asked.append(fraction), lambda: len(asked) > 3)
    with pytest.raises(Cancelled):
        better_start(judge, start, start, progress)
    assert len(asked) == 4


def test_an_interruption_of_an_alignment_is_one() -> None:
    head = a_head()
    seen: list[float] = []

    def interrupt(fraction: float, _text: str) -> None:
        seen.append(fraction)
        if len(seen) == 4:
            signal.raise_signal(signal.SIGINT)

    # Where tests run side by side, their processes ignore this signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            align(head, moved(head, a_turn(9, (8, 0, 0))), AlignmentOptions("rigid"), progress=Progress(interrupt))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) < 10


def test_a_defect_of_who_listens_is_not_taken_for_volumes_that_do_not_overlap() -> None:
    head = a_head()
    with pytest.raises(ZeroDivisionError):
        align(head, head, AlignmentOptions("rigid"), progress=Progress(lambda _fraction, _text: 1 / 0))


def test_landmarks_give_the_transform_that_they_follow() -> None:
    head, known = a_head(), a_turn(20, (30, -10, 4))
    points = inner_points(head.geometry)[:5]
    assert distance(from_landmarks(points, known.apply(points)), known, head.geometry) < 1e-9
    stretched = SpatialTransform((np.diag([1.2, 0.9, 1.0, 1.0]),)).then(known)
    assert distance(from_landmarks(points, stretched.apply(points), "affine"), stretched, head.geometry) < 1e-9
    mirrored = points * [-1, 1, 1]
    assert np.linalg.det(from_landmarks(points, mirrored).matrix[:3, :3]) == pytest.approx(1)


def test_landmarks_that_leave_the_turn_open_are_refused() -> None:
    line = np.outer([0.0, 1, 2, 3], [1, 2, 3])
    for points, words in ((line, "lie on a line"), (line[:2], "too few")):
        with pytest.raises(InputError, match=words):
            from_landmarks(points, points)
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    with pytest.raises(InputError, match="in a plane"):
        from_landmarks(flat, flat, "affine")
    with pytest.raises(InputError, match="4 landmarks in the fixed and 3 in the moving"):
        from_landmarks(flat, flat[:3])
