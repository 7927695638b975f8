"""Synthetic pairs: smooth warps that do not fold, label maps read through them, images painted on the result."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medseg.errors import RecipeError
from medseg.metrics.deformation import folded_share
from medseg.training.synthesis import (
    Draws,
    GridSection,
    PaintingSection,
    PairSection,
    PoseSection,
    ShapeSection,
    SyntheticPair,
    WarpSection,
    pair_of_anatomies,
    pair_of_shapes,
    read_anatomies,
)
from medseg.training.synthesis.painting import Tissue, _thick, ct_contrast, cut, paint, random_contrast
from medseg.training.synthesis.shapes import random_shapes
from medseg.training.synthesis.warps import random_displacement, random_pose, read_labels_at
from medseg.volumes import Geometry, Volume, write_labelmap

GRID = GridSection(size=(24, 28, 20), spacing=4.0)
PLAIN = PaintingSection(
    two_contrasts=0.0, strip_probability=0.0, strip_one=0.0, cut_probability=0.0, background_probability=0.0,
    noise=0.0, blur_voxels=0.0, thick_probability=0.0, bias_probability=0.0, gamma_probability=0.0,
)  # fmt: skip
STILL = PoseSection(rotation_degrees=0, scale=0, shear=0, translation_mm=0)


def shapes(seed: int, **changes: object) -> SyntheticPair:
    settings = {"grid": GRID, "shapes": ShapeSection(), "section": PairSection(), "painting": PaintingSection()}
    return pair_of_shapes(Draws(seed), **{**settings, **changes})


@pytest.fixture(scope="module")
def two_heads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two label maps of ten blobs in a skull (code 515), the second turned, larger and elsewhere; in LIA."""
    folder, files = tmp_path_factory.mktemp("heads"), {}
    random = np.random.default_rng(1)
    centres = random.uniform(-45, 45, (10, 3))
    for number, name in enumerate(("one", "two")):
        geometry = Geometry.from_spacing((60, 64, 56), (3.0, 3.0, 3.0), (-84.0, -96.0, -90.0), "RAS")
        k, j, i = np.indices(geometry.shape)
        points = geometry.ijk_to_ras_points(np.stack([i, j, k], -1).reshape(-1, 3))
        turn, shift = change_of_the_second() if number else (np.eye(3), np.zeros(3))
        points = ((points - shift) @ np.linalg.inv(turn).T).reshape(*geometry.shape, 3)
        array = np.where(np.linalg.norm(points, axis=-1) < 78, 515, 0)
        array[np.linalg.norm(points, axis=-1) < 68] = 24
        for code, centre in enumerate(centres, start=30):
            array[np.linalg.norm(points - centre, axis=-1) < 12] = code
        label = Volume(array.astype(np.int16), geometry)
        files[name] = folder / f"{name}.nii.gz"
        write_labelmap(label.reorient("LIA"), files[name])
    return files


def change_of_the_second() -> tuple[np.ndarray, np.ndarray]:
    angle = math.radians(12)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    return turn @ np.diag([1.05, 0.95, 1.0]), np.array([6.0, -4.0, 3.0])


def of_heads(files: dict[str, Path], seed: int, **changes: object) -> SyntheticPair:
    first, second = read_anatomies(files, orientation="RAS", spacing_mm=3.0)
    place = {code: number for number, code in enumerate(first.codes)}
    settings = {
        "grid": GridSection(size=(48, 48, 48), spacing=4.0),
        "section": PairSection(pose=STILL, misaligned=STILL, warps=WarpSection(amplitudes_mm=(0, 0, 0))),
        "painting": PLAIN,
        "scored": [place[code] for code in range(30, 40)],
        "outside": [place[515]],
        "tissues": [Tissue.AIR] + [Tissue.BONE if code == 515 else Tissue.SOFT for code in first.codes[1:]],
    }
    return pair_of_anatomies(first, second, Draws(seed), **{**settings, **changes})


def overlap(pair: SyntheticPair) -> float:
    scores = []
    for value in pair.scored:
        one, other = pair.fixed_labels == value, pair.moving_labels == value
        scores.append(2 * float((one & other).sum()) / float((one.sum() + other.sum()).clamp(min=1)))
    return sum(scores) / len(scores)


def test_the_same_seed_gives_the_same_pair_and_another_seed_another() -> None:
    first, again, other = shapes(5), shapes(5), shapes(6)
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert first.scored == again.scored
    assert not torch.equal(first.fixed, other.fixed)


def test_a_pair_is_two_images_from_0_to_1_of_the_size_of_the_grid() -> None:
    for seed in range(4):
        pair = shapes(seed)
        for image in (pair.fixed, pair.moving):
            assert image.shape == GRID.size
            assert image.dtype == torch.float32
            assert torch.isfinite(image).all()
            assert image.min() >= 0
            assert image.max() <= 1
            assert image.std() > 0.01
        assert pair.fixed_labels.dtype == torch.uint8
        assert 0 not in pair.scored


def test_the_two_images_are_deformed_differently() -> None:
    pair = shapes(3, section=PairSection(pose=STILL, misaligned=STILL))
    assert not torch.equal(pair.fixed_labels, pair.moving_labels)
    assert 0.2 < overlap(pair) < 0.99
    still = PairSection(pose=STILL, misaligned=STILL, warps=WarpSection(amplitudes_mm=(0, 0, 0)))
    same = shapes(3, section=still, painting=PLAIN)
    assert torch.equal(same.fixed_labels, same.moving_labels)


@pytest.mark.parametrize("size", [(24, 28, 20), (40, 32, 36)])
@pytest.mark.parametrize("scales", [((80.0, 40.0), (40.0, 20.0)), ((40.0, 16.0), (20.0, 8.0))])
def test_a_random_warp_is_as_large_as_allowed_at_most_and_folds_nowhere(
    size: tuple[int, int, int], scales: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    section = WarpSection(scales_mm=scales[0], amplitudes_mm=scales[1])
    largest = 0.0
    for seed in range(6):
        field = random_displacement(size, 4.0, section, Draws(seed))
        assert field.shape == (3, *size)
        assert folded_share(field.numpy()) == 0
        largest = max(largest, float(field.square().sum(0).max().sqrt()) * 4.0)
    assert 2.0 < largest <= sum(scales[1])


def test_amplitudes_that_would_fold_are_refused() -> None:
    with pytest.raises(ValidationError, match="at most half of its scale"):
        WarpSection(scales_mm=(20.0,), amplitudes_mm=(11.0,))
    with pytest.raises(ValidationError, match="equally long"):
        WarpSection(scales_mm=(20.0,), amplitudes_mm=(1.0, 2.0))


def test_a_label_map_read_in_place_is_itself_and_a_known_shift_moves_it() -> None:
    labels = torch.randint(1, 200, (9, 8, 7), dtype=torch.uint8)
    pose, still = torch.eye(4, dtype=torch.float64), torch.zeros(3, 9, 8, 7)
    assert torch.equal(read_labels_at(labels, 2.0, pose, still, 2.0), labels)
    pose[:3, 3] = torch.tensor([2.0, -4.0, 0.0])  # one voxel along I, two back along J
    moved = read_labels_at(labels, 2.0, pose, still, 2.0)
    assert torch.equal(moved[:-1, 2:], labels[1:, :-2])
    assert not moved[-1].any()
    assert not moved[:, :2].any()
    field = still.clone()
    field[2] = 3.0
    displaced = read_labels_at(labels, 2.0, torch.eye(4, dtype=torch.float64), field, 2.0)
    assert torch.equal(displaced[..., :4], labels[..., 3:])


def test_a_finer_map_is_read_on_a_coarser_grid_around_the_same_middle() -> None:
    fine = torch.arange(8, dtype=torch.uint8).reshape(8, 1, 1).expand(8, 8, 8).contiguous()
    coarse = read_labels_at(fine, 1.0, torch.eye(4, dtype=torch.float64), torch.zeros(3, 3, 3, 3), 2.0)
    # The middle of eight voxels is 3.5; two mm on either side are 1.5 and 5.5, between two voxels each.
    assert np.abs(coarse[:, 1, 1].numpy() - np.array([1.5, 3.5, 5.5])).max() <= 0.5


def test_a_pose_is_within_its_limits() -> None:
    section = PoseSection(rotation_degrees=10, scale=0.1, shear=0.0, translation_mm=5, flips=(0,))
    flipped = 0
    for seed in range(20):
        matrix = random_pose(section, Draws(seed)).numpy()
        assert np.abs(matrix[:3, 3]).max() <= 5
        singular = np.linalg.svd(matrix[:3, :3])[1]
        assert singular.min() >= 0.9 - 1e-9
        assert singular.max() <= 1.1 + 1e-9
        flipped += np.linalg.det(matrix[:3, :3]) < 0
    assert 3 < flipped < 17


def test_shapes_have_as_many_classes_as_asked_for_and_a_body_has_background_around() -> None:
    section = ShapeSection(classes=(6, 6), size_mm=(10, 10), body_probability=0.0)
    labels, classes = random_shapes((32, 32, 32), 2.0, section, Draws(0))
    assert classes == 6
    assert len(labels.unique()) >= 5
    inside = section.model_copy(update={"body_probability": 1.0})
    body, classes = random_shapes((32, 32, 32), 2.0, inside, Draws(0))
    assert classes == 7
    assert not body[0, 0, 0]
    assert body[16, 16, 16]
    assert 0.2 < float((body > 0).float().mean()) < 0.9


def test_the_contrast_of_ct_keeps_the_order_of_the_tissues() -> None:
    tissues = [Tissue.AIR, Tissue.BONE, Tissue.SOFT, Tissue.FLUID, Tissue.FAT, Tissue.BONE]
    for seed in range(30):
        means = ct_contrast(tissues, Draws(seed)).means.tolist()
        order = [tissue for _, tissue in sorted(zip(means, tissues, strict=True))]
        assert order == sorted(tissues)
        assert means[0] == -1000


def test_an_image_of_ct_is_brighter_where_the_tissue_is_denser() -> None:
    labels = torch.arange(5).repeat_interleave(200).reshape(10, 10, 10)
    image = paint(labels, ct_contrast(list(Tissue), Draws(2)), PLAIN, Draws(2))
    means = [float(image[labels == value].mean()) for value in range(5)]
    assert means == sorted(means)
    windowed = paint(labels, ct_contrast(list(Tissue), Draws(2), window=True), PLAIN, Draws(2))
    apart = float(windowed[labels == 3].mean() - windowed[labels == 1].mean())
    assert apart > 3 * (means[3] - means[1])


def test_a_ct_pair_counts_tissues_and_not_what_looks_the_same(two_heads: dict[str, Path]) -> None:
    pair = of_heads(two_heads, 0, painting=PLAIN.model_copy(update={"ct_probability": 1.0}))
    assert pair.scored == (int(Tissue.SOFT), int(Tissue.BONE))
    assert set(pair.fixed_labels.unique().tolist()) == {Tissue.AIR, Tissue.SOFT, Tissue.BONE}
    inside, bone = pair.fixed[pair.fixed_labels == Tissue.SOFT], pair.fixed[pair.fixed_labels == Tissue.BONE]
    assert inside.mean() < bone.mean()


def test_one_contrast_paints_both_images_alike_and_two_do_not() -> None:
    still = PairSection(pose=STILL, misaligned=STILL, warps=WarpSection(amplitudes_mm=(0, 0, 0)))

    def likeness(probability: float) -> float:
        pair = shapes(1, section=still, painting=PLAIN.model_copy(update={"two_contrasts": probability}))
        return float(torch.corrcoef(torch.stack([pair.fixed.flatten(), pair.moving.flatten()]))[0, 1])

    assert likeness(0.0) > 0.8
    assert likeness(1.0) < 0.75


def test_labels_that_are_alike_get_the_same_paint(two_heads: dict[str, Path]) -> None:
    first, _ = read_anatomies(two_heads, orientation="RAS", spacing_mm=3.0)
    alike = list(range(len(first.codes)))
    alike[first.codes.index(33)] = alike[first.codes.index(32)]
    pair = of_heads(two_heads, 4, painted_as=alike)
    middles = {code: float(pair.fixed[pair.fixed_labels == first.codes.index(code)].median()) for code in (31, 32, 33)}
    assert middles[32] == pytest.approx(middles[33], abs=0.05)
    assert abs(middles[31] - middles[32]) > 0.1


def test_stripping_takes_away_what_is_outside_in_both_images_or_in_one(two_heads: dict[str, Path]) -> None:
    first, _ = read_anatomies(two_heads, orientation="RAS", spacing_mm=3.0)
    skull = first.codes.index(515)
    both = of_heads(two_heads, 0, painting=PLAIN.model_copy(update={"strip_probability": 1.0}))
    assert not (both.fixed_labels == skull).any()
    assert not (both.moving_labels == skull).any()
    one = of_heads(two_heads, 0, painting=PLAIN.model_copy(update={"strip_one": 1.0}))
    assert bool((one.fixed_labels == skull).any()) != bool((one.moving_labels == skull).any())


def test_a_cut_ends_an_image_early_along_one_axis() -> None:
    labels = torch.ones(20, 20, 20, dtype=torch.uint8)
    section = PLAIN.model_copy(update={"cut_probability": 1.0, "cut_share": 0.4})
    shares = [float((cut(labels, section, Draws(seed)) == 0).float().mean()) for seed in range(8)]
    assert max(shares) > 0.1
    assert max(shares) <= 0.4
    assert labels.all()


def test_thick_slices_keep_a_constant_and_forget_what_alternates() -> None:
    matrix = _thick(24, 3.0)
    torch.testing.assert_close(matrix.sum(1), torch.ones(24))
    alternating = torch.arange(24) % 2 * 2.0 - 1
    assert float((matrix @ alternating).abs().max()) < 0.4
    slope = torch.arange(24, dtype=torch.float32)
    torch.testing.assert_close((matrix @ slope)[3:-3], slope[3:-3], atol=1e-3, rtol=0)


def test_two_heads_are_aligned_by_the_centres_of_their_structures(two_heads: dict[str, Path]) -> None:
    first, second = read_anatomies(two_heads, orientation="RAS", spacing_mm=3.0)
    places = [first.codes.index(code) for code in range(30, 40)]
    matrix = first.alignment_to(second, places).numpy()
    np.testing.assert_allclose(matrix[:3, :3], change_of_the_second()[0], atol=0.05)
    here, there = first.centres_mm[places].numpy(), second.centres_mm[places].numpy()
    assert np.abs(here @ matrix[:3, :3].T + matrix[:3, 3] - there).max() < 1.5
    assert overlap(of_heads(two_heads, 0)) > 0.85
    shift = first.alignment_to(second, places[:3]).numpy()
    np.testing.assert_array_equal(shift[:3, :3], np.eye(3))


def test_label_maps_are_turned_to_one_orientation_and_cropped(two_heads: dict[str, Path]) -> None:
    first, second = read_anatomies(two_heads, orientation="RAS", spacing_mm=3.0, ignore=[24])
    assert first.codes == second.codes == (0, *range(30, 40), 515)
    assert first.labels[:, :, 0].max() > 0
    assert abs(first.labels.shape[0] - 52) <= 1  # a skull of 156 mm
    by_hand, _ = read_anatomies(two_heads, orientation="LPS", spacing_mm=3.0, ignore=[24])
    assert torch.equal(by_hand.labels, first.labels.flip(0, 1))


def test_label_maps_that_cannot_be_used_are_all_named(two_heads: dict[str, Path], tmp_path: Path) -> None:
    empty = Volume(np.zeros((8, 8, 8), np.uint8), Geometry.from_spacing((8, 8, 8), (3.0, 3.0, 3.0)))
    write_labelmap(empty, tmp_path / "empty.nii.gz")
    (tmp_path / "damaged.nii.gz").write_bytes(b"nothing")
    files = {"empty": tmp_path / "empty.nii.gz", "damaged": tmp_path / "damaged.nii.gz", "one": two_heads["one"]}
    with pytest.raises(RecipeError, match="2 of 3 label maps cannot be used: empty: it holds no label; damaged: "):
        read_anatomies(files, orientation="RAS", spacing_mm=3.0)


def test_a_contrast_has_a_black_background_only_when_asked() -> None:
    assert random_contrast(5, Draws(0)).means[0] == 0
    assert random_contrast(5, Draws(0), black=False).means[0] > 0


def test_real_label_maps_make_pairs_whose_brains_lie_on_each_other(shared_data: Path) -> None:
    folder = shared_data / "brain-labels"
    if not folder.is_dir():
        pytest.skip("the label maps of heads are not here")
    files = {name: folder / f"{name}.nii.gz" for name in ("brain_labels_01", "brain_labels_05")}
    first, second = read_anatomies(files, orientation="RAS", spacing_mm=4.0)
    brain = [first.codes.index(code) for code in (2, 3, 8, 10, 12, 16, 41, 42, 47, 49, 51)]
    pair = pair_of_anatomies(
        first,
        second,
        Draws(0),
        grid=GridSection(size=(40, 48, 40), spacing=4.0),
        section=PairSection(misaligned=STILL, warps=WarpSection(amplitudes_mm=(0, 0, 0))),
        painting=PaintingSection(cut_probability=0.0),
        scored=brain,
        outside=(),
        tissues=[Tissue.AIR] + [Tissue.SOFT] * (len(first.codes) - 1),
    )
    assert overlap(pair) > 0.5
