"""Samples for a network of clicks that are painted on label maps: what is painted, united, kept aside and held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medseg.errors import RecipeError
from medseg.training.correction import makers
from medseg.training.correction.data import TrainingSamples
from medseg.training.correction.export import correction_card
from medseg.training.correction.makers import LabelMapMaker, makers_of
from medseg.training.correction.painted import painted_sample
from medseg.training.correction.recipe import read_correction_recipe
from medseg.training.correction.samples import LabelMap, Sample
from medseg.training.correction.sources import LabelMapsSource
from medseg.training.synthesis import Draws
from medseg.volumes import Geometry, Volume, write_labelmap
from support.correction import SHAPES, a_correction_recipe, a_slice_recipe

STILL = {"rotation_degrees": 0, "stretch": 1, "from_segmentation": 0, "edge_mm": (64, 64)}
PLAIN = {"noise": 0, "blur_voxels": 0, "thick_probability": 0, "bias_probability": 0, "gamma_probability": 0}
RED, BLUE, SPECK, SHELL = 3, 17, 30, 502


def maps(**changes: Any) -> dict[str, Any]:
    return {"kind": "label_maps", "folder": "heads", "keep_aside": 2, "spacing": 2.0, "ignore": [SHELL], **changes}


def a_head(shift: int = 0) -> np.ndarray:
    """Two blocks side by side, 16 x 20 x 12 and 16 x 20 x 20 voxels, in a shell, and a speck beside them."""
    labels = np.zeros((44, 44, 44), np.uint16)
    labels[2:42, 2:42, 2:42] = SHELL
    labels[5:39, 5:39, 5:39] = 0
    labels[10:26, 10:30, 8 + shift : 20 + shift] = RED
    labels[10:26, 10:30, 20 + shift : 38] = BLUE
    labels[32, 32, 30:33] = SPECK
    return labels


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five such heads, in other axes than those in which they are read."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "heads").mkdir()
    for number in range(5):
        array = a_head(number % 2)
        geometry = Geometry.from_spacing(array.shape, (2.0, 2.0, 2.0), orientation="LIA")
        write_labelmap(Volume(array, geometry), folder / "heads" / f"h{number}.nii.gz")
    return folder


def the_maker(data: Path, *, flat: bool = False, **changes: Any) -> LabelMapMaker:
    recipe = a_slice_recipe if flat else a_correction_recipe
    (maker,) = makers_of(recipe(sources=[maps(**changes)]), data)
    assert isinstance(maker, LabelMapMaker)
    return maker


def a_sample(seed: int, value: int = 1, samples: dict[str, Any] | None = None, **changes: Any) -> Sample:
    """A sample of a head with the labels 1 and 2 (the blocks) and 3 (the shell, which is no structure)."""
    array = np.searchsorted([0, RED, BLUE, SHELL], a_head() * (a_head() != SPECK)).astype(np.uint8)
    head = LabelMap.of_labels(array, (2.0, 2.0, 2.0))
    del head.structures[3]
    changes = {"bend": 0.0, "unions": 0.0, "voxels_mm": (1.0, 1.0), "painting": PLAIN, **changes}
    source = LabelMapsSource.model_validate(maps(**changes))
    recipe = a_correction_recipe(samples={**STILL, **(samples or {})}, sources=[source])
    sample = painted_sample(head, value, source, recipe, Draws(seed))
    assert sample is not None
    return sample


# --- a sample


@pytest.mark.parametrize(("value", "size"), [(1, (32, 40, 24)), (2, (32, 40, 36))])
def test_a_block_keeps_its_size_in_mm(value: int, size: tuple[int, int, int]) -> None:
    extents = []
    for seed in range(6):
        sample = a_sample(seed, value)
        assert sample.image.shape == sample.truth.shape == sample.start.shape == (1, 32, 32, 32)
        places = sample.truth[0].nonzero()
        extents.append(2 * (places.amax(0) - places.amin(0) + 1))
        # The window of 64 mm may cut it off, and voxels of 2 mm lie anywhere in those of the map.
        assert (extents[-1] <= torch.tensor(size) + 2).all()
    assert (torch.stack(extents).amax(0) >= torch.tensor(size) - 2).all()


def test_the_image_shows_what_the_truth_says() -> None:
    within = [float(sample.image[sample.truth > 0].std()) for sample in map(a_sample, range(8))]
    assert np.mean(within) < 0.5, "the deviation of the whole image is 1"


def test_every_sample_has_another_contrast() -> None:
    means = {round(float(sample.image[sample.truth > 0].mean()), 2) for sample in map(a_sample, range(8))}
    assert len(means) >= 7


def test_maps_are_bent_and_nothing_is_torn() -> None:
    from scipy import ndimage

    straight, bent = (a_sample(4, bend=bend).truth[0].numpy() for bend in (0.0, 0.2))
    assert (straight != bent).sum() > 20
    assert ndimage.label(bent)[1] == ndimage.label(straight)[1] == 1
    assert bent.sum() == pytest.approx(straight.sum(), rel=0.5)


def test_a_fine_window_sees_large_voxels_of_the_image_smoothly() -> None:
    def roughness(millimetres: float) -> float:
        samples = [a_sample(seed, voxels_mm=(millimetres, millimetres)) for seed in range(4)]
        return float(torch.stack([sample.image.diff(dim=-1).square().mean() for sample in samples]).mean())

    assert roughness(6.0) < 0.7 * roughness(2.0)
    # The structure stays where it is.
    coarse, fine = (a_sample(2, voxels_mm=(size, size)).truth for size in (3.0, 2.0))
    assert float(2 * (coarse * fine).sum() / (coarse.sum() + fine.sum())) > 0.9


def test_a_structure_and_its_neighbour_are_one_structure_in_one_paint() -> None:
    for seed in range(4):
        alone, united = a_sample(seed), a_sample(seed, unions=1)
        added = united.truth - alone.truth
        assert added.min() == 0
        assert added.sum() > 100
        first, second = (float(united.image[part > 0].mean()) for part in (alone.truth, added))
        assert first == pytest.approx(second, abs=0.1)


def test_samples_begin_with_a_segmentation_as_often_as_the_recipe_says() -> None:
    assert all(a_sample(seed, samples={"from_segmentation": 1}).start.any() for seed in range(3))
    assert not any(a_sample(seed).start.any() for seed in range(3))


# --- a source


def test_cases_kept_aside_and_labels_held_out_are_never_trained_on(a_folder: Path) -> None:
    maker = the_maker(a_folder, hold_out=[BLUE], names={RED: "Red block"})
    trained, aside = maker.cases
    assert sorted([*trained, *aside]) == ["h0", "h1", "h2", "h3", "h4"]
    kept = maker.kept_aside()
    assert [(one.structure, one.seen) for one in kept[:2]] == [("Red block", True), ("heads 17", False)]
    assert {one.case for one in kept} == set(aside)
    assert kept[0].case != kept[1].case
    # What is held out is not brought in as a neighbour either, and the shell is no structure.
    alone, united = (the_maker(a_folder, hold_out=[BLUE], unions=share) for share in (0.0, 1.0))
    for seed in range(4):
        assert torch.equal(alone.training_sample(Draws(seed)).truth, united.training_sample(Draws(seed)).truth)


def test_what_is_measured_is_a_whole_map_in_one_image(a_folder: Path) -> None:
    first, again = (the_maker(a_folder).kept_aside() for _ in range(2))
    assert len(first) == 4
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.scan.image, other.scan.image)
    one = first[0]
    inside = one.scan.labels == one.value
    assert inside.sum() in (16 * 20 * 12, 16 * 20 * 18, 16 * 20 * 17)
    assert one.scan.image.shape == one.scan.labels.shape
    assert one.scan.spacing == (2.0, 2.0, 2.0)
    assert any(two.scan is one.scan for two in first[1:]), "the structures of a case share its image"
    assert len({float(two.scan.image.mean()) for two in first}) == 2


def test_specks_are_no_structures(a_folder: Path) -> None:
    assert {one.structure for one in the_maker(a_folder).kept_aside()} == {"heads 3", "heads 17"}


@pytest.mark.parametrize("flat", [False, True])
def test_a_number_is_the_same_sample_in_every_run(a_folder: Path, flat: bool) -> None:
    recipe = (a_slice_recipe if flat else a_correction_recipe)(sources=[maps(share=3), SHAPES])
    first, again = (TrainingSamples(recipe, makers_of(recipe, a_folder)) for _ in range(2))
    for number in range(6):
        one, other = first[number], again[number]
        assert one["image"].shape == (1, *recipe.size)
        assert one["truth"].sum() >= 8
        assert torch.isfinite(one["image"]).all()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(first[0]["image"], first[1]["image"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folder": "none"}, "no files like"),
        ({"labels": "{case}.nrrd"}, "no files like"),
        ({"ignore": [RED, BLUE, SHELL]}, "no structure to train on"),
        ({"keep_aside": 5}, "no structure to train on"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(a_folder: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        the_maker(a_folder, **changes)


def test_label_maps_need_a_folder() -> None:
    with pytest.raises(RecipeError, match="No folder of labelled scans or label maps"):
        makers_of(a_correction_recipe(sources=[maps()]), None)


def test_a_file_that_is_no_label_map_is_named(a_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "bad.nii.gz").write_bytes(b"nothing")
    with pytest.raises(RecipeError, match="1 of 1 label maps cannot be used: bad"):
        the_maker(tmp_path)


def test_structures_that_no_slice_shows_are_told(a_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makers, "_MOST_SMALL", 3)
    recipe = a_slice_recipe(sources=[maps()], samples={"edge_mm": (900, 900)})
    (maker,) = makers_of(recipe, a_folder)
    with pytest.raises(RecipeError, match="too small to be seen in slices"):
        maker.training_sample(Draws(0))


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ([maps(bend=0.5)], "bend"),
        ([maps(labels="x.nii.gz")], "exactly once"),
        ([maps(folder="../elsewhere")], "lie in the folder of the data"),
        ([maps(hold_out=[SHELL])], "are ignored"),
        ([maps(voxels_mm=(3, 1))], "smallest and the largest"),
        ([maps(), maps()], "twice"),
    ],
)
def test_wrong_keys_are_named(sources: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        a_correction_recipe(sources=sources)


def test_names_do_not_change_the_digest_and_paint_does() -> None:
    first, named, other = (
        a_correction_recipe(sources=[maps(**changes)]).digest()
        for changes in ({}, {"names": {RED: "Red"}}, {"unions": 0.5})
    )
    assert first == named != other


@pytest.mark.parametrize("name", ["any-structure", "any-slice"])
def test_the_shipped_recipes_train_on_label_maps_and_mostly_on_scans(repository: Path, name: str) -> None:
    recipe = read_correction_recipe(repository / "Resources" / "recipes" / f"{name}.yaml")
    shares: dict[str, float] = {}
    for source in recipe.sources:
        shares[source.kind] = shares.get(source.kind, 0) + source.share
    assert shares.keys() == {"scans", "label_maps", "shapes"}
    assert shares["scans"] > shares["label_maps"] + shares["shapes"]


def test_the_card_tells_where_samples_come_from() -> None:
    scans = {"kind": "scans", "folder": "livers"}
    card = correction_card(a_correction_recipe(sources=[scans, maps(share=2), SHAPES]), [])
    assert "25 % structures of livers; 50 % structures of heads, label maps" in card
    assert "25 % random shapes, painted" in card
