"""The claim on CT of any range: what its phantoms promise, that it can fail, and that its machinery runs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.ndimage import label

from benchmarks.claims import arbitrary_range
from benchmarks.claims.arbitrary_range import COLUMNS
from benchmarks.claims.phantom_torso import MOST_VERTEBRAE, PLANE, RIB_PAIRS, random_torso
from benchmarks.claims.range_learning import (
    LEFT_RIBS,
    RIGHT_RIBS,
    SHORT,
    SLICES,
    SYSTEMS,
    TOUCHING,
    VERTEBRAE,
    WHOLE,
    Figures,
    Scale,
    classes_of,
    instances_of,
    package_of,
    scans_of,
)
from benchmarks.claims.range_real_ct import Group, RealCT, has_data
from benchmarks.claims.range_stitching import METHODS, RIBS, Tally, stitched
from benchmarks.claims.range_stitching import VERTEBRAE as SPINE
from medseg.analysis.components import connected_components
from medseg.analysis.panoptic import Match, Panoptic
from medseg.progress import NO_PROGRESS


def quality(hits: int, wrong: int = 0, missed: int = 0, dice: float = 1.0) -> Panoptic:
    return Panoptic(tuple(Match(n, n, dice) for n in range(hits)), wrong, missed)


def test_bones_of_a_torso_do_not_touch_and_are_whole():
    rng = np.random.default_rng(0)
    for _ in range(5):
        torso = random_torso(rng)
        assert torso.image.shape[1:] == (PLANE, PLANE)
        count = int(torso.vertebrae.max())
        assert 11 <= count <= MOST_VERTEBRAE
        assert connected_components(torso.vertebrae > 0, 26).max() == count
        assert connected_components((torso.ribs > 0) & (torso.ribs <= RIB_PAIRS), 26).max() == RIB_PAIRS
        assert set(np.unique(torso.organs)) == {0, 1, 2, 3}
        assert not (torso.organs.astype(bool) & ((torso.vertebrae > 0) | (torso.ribs > 0))).any()
        heights = [np.flatnonzero((torso.vertebrae == n).any(axis=(1, 2))) for n in range(1, count + 1)]
        # Taller than no overlap: the rule for vertebrae applies.
        assert max(len(slices) for slices in heights) <= SLICES // 2
        assert all(above[-1] < below[0] for above, below in itertools.pairwise(heights))


def test_vertebrae_differ_in_their_number_only_a_little():
    torso = random_torso(np.random.default_rng(1))
    tall = [int((torso.vertebrae == n).any(axis=(1, 2)).sum()) for n in range(1, int(torso.vertebrae.max()) + 1)]
    assert max(tall) - min(tall) <= 5


def test_groups_and_numbers_are_two_names_of_the_same_voxels():
    torso = random_torso(np.random.default_rng(2))
    groups, numbers, bones = classes_of(torso, numbered=False), classes_of(torso, numbered=True), instances_of(torso)
    assert ((groups >= VERTEBRAE) == (bones > 0)).all()
    assert len(np.unique(bones[groups == LEFT_RIBS])) == len(np.unique(bones[groups == RIGHT_RIBS])) == RIB_PAIRS
    pairs = {*zip(numbers[bones > 0].tolist(), bones[bones > 0].tolist(), strict=True)}
    assert len(pairs) == len(np.unique(bones)) - 1
    assert numbers.max() < SYSTEMS[-1].classes


def test_only_the_others_separate_instances():
    assert [package_of(system).instances is None for system in SYSTEMS] == [False, False, False, True]
    assert [len(system.groups) for system in SYSTEMS] == [0, 3, 1, 0]


def test_short_ranges_are_cut_from_the_whole_torsos():
    scans = scans_of(0, Scale(1, 1, 3))
    assert all(32 <= len(scan.image) <= 48 for scan in scans[SHORT])
    assert all(len(scan.image) > 90 for scan in scans[WHOLE])


def test_bridges_join_neighbouring_ribs_and_nothing_else():
    apart, joined = (random_torso(np.random.default_rng(5), bridges=count) for count in (0, 3))
    added = (joined.ribs > 0) & (apart.ribs == 0)
    assert added.any()
    assert np.array_equal(joined.vertebrae, apart.vertebrae)
    sides = [np.where((joined.ribs > low) & (joined.ribs <= low + RIB_PAIRS), 1, 0) for low in (0, RIB_PAIRS)]
    counts = [label(side, np.ones((3, 3, 3)))[1] for side in sides]
    assert sum(counts) == 2 * RIB_PAIRS - 3


def test_the_rules_keep_every_bone_and_naive_stitching_does_not():
    found = stitched(2, 0, NO_PROGRESS)
    assert found[SPINE]["rule for vertebrae, with our addition"].exact == 2
    assert found[RIBS]["rule for ribs"].exact == 2
    assert all(found[SPINE][name].quality.pq < 0.95 for name in METHODS if name.startswith("naive"))


def test_the_stitching_claim_can_fail():
    def tallies(rule: Panoptic, naive: Panoptic) -> dict[str, dict[str, Tally]]:
        return {
            bones: {name: Tally(naive if name.startswith("naive") else rule) for name in METHODS}
            for bones in (SPINE, RIBS)
        }

    good, bad = quality(20), quality(20, wrong=20)
    assert "Stitching: held" in arbitrary_range._stitching_verdict(tallies(good, bad))
    assert "Stitching: not held" in arbitrary_range._stitching_verdict(tallies(bad, bad))
    assert "Stitching: not held" in arbitrary_range._stitching_verdict(tallies(good, good))


@pytest.mark.parametrize(
    ("numbered", "short", "held"),
    [
        (0.2, quality(10), "held"),
        (0.8, quality(10), "not held"),
        (0.2, quality(5, missed=5), "not held"),
    ],
)
def test_the_learning_claim_can_fail(numbered: float, short: Panoptic, held: str):
    def figures(bones: Panoptic) -> dict[str, list[Figures]]:
        names = quality(1, wrong=9)
        return {
            system.name: [
                Figures(names, bones, [numbered], [1.0]) if system.numbered else Figures(bones, bones, [], [1.0])
            ]
            for system in SYSTEMS
        }

    found = {SHORT: figures(short), WHOLE: figures(quality(10)), TOUCHING: figures(quality(10))}
    assert f"Learning: {held};" in arbitrary_range._learning_verdict(found)


def test_what_a_real_ct_gave_is_told_with_its_limits():
    real = RealCT((Group("Left rib", quality(3), quality(2), 9),), 40, (30, 112), ("Look at it.",), 7, 12.0)
    (row,) = arbitrary_range._real_rows(real)
    assert row[3] == "–"
    assert row[4].startswith("1.000")
    assert "9 in the whole trunk" in row[5]
    assert "Look at it." in " ".join(arbitrary_range._real_notes(real))
    assert not has_data(None)


def test_the_experiment_runs_from_end_to_end():
    report = arbitrary_range.run(quick=True, seeds=1, threads=1)
    assert report.columns == COLUMNS
    assert len(report.rows) == len(METHODS) + 3 * len(SYSTEMS)
    assert "Stitching: held" in report.verdict
    assert any("left out" in note for note in report.notes)
    assert "Bones in CT" in report.markdown()
