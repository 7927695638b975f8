"""The sources of a correction recipe at work: scans found and read, samples made of them, structures kept aside."""

from __future__ import annotations

import dataclasses
import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from medseg.errors import MedSegError, RecipeError
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.correction.painted import painted_sample, painted_scan
from medseg.training.correction.samples import LabelledScan, LabelMap, Sample, sample_of, slice_of
from medseg.training.correction.sources import LabelMapsSource, ScansSource, ShapesSource
from medseg.training.synthesis import Anatomy, Draws, read_anatomies
from medseg.training.synthesis.painting import paint, random_contrast
from medseg.training.synthesis.shapes import random_shapes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from medseg.training.correction.recipe import CorrectionRecipe
    from medseg.training.correction.sources import LabelledSource
    from medseg.volumes import Volume


_MOST_SMALL = 200
_SLAB = 8
"""A slab of shapes has an eighth of the slices that a cube would have."""
_HELD_OUT_SEED = 7_919_000_003
"""Far from the numbers of samples to train on."""
_ORIENTATION = "RAS"
"""Of the axes of label maps."""


@dataclass(frozen=True, eq=False)
class KeptAside:
    """A structure on which the network is measured.

    Attributes
    ----------
    case, structure
        What they are called.
    scan, value
        Where it is.
    seen
        Whether the network has been trained on this kind of structure, in other scans.
    """

    case: str
    structure: str
    scan: LabelledScan
    value: int
    seen: bool


class SampleMaker(Protocol):
    """Makes the samples of one source."""

    share: float

    def training_sample(self, draws: Draws) -> Sample:
        """Return a sample to train on."""

    def kept_aside(self) -> Sequence[KeptAside]:
        """Return the structures that are never trained on."""

    @property
    def cases(self) -> tuple[list[str], list[str]]:
        """The names of the cases that are trained on, and of those that are kept aside."""


class ScanMaker:
    """Structures of labelled scans, which are held in memory.

    Raises
    ------
    RecipeError
        When files are missing or cannot be used, or nothing is left to train on.
    """

    def __init__(self, source: ScansSource, recipe: CorrectionRecipe, data: Path, progress: Progress) -> None:
        self.share, self._source, self._recipe = source.share, source, recipe
        files = _files(source, data)
        aside = _cases_aside(files, source, recipe)
        self._training: dict[str, LabelledScan] = {}
        self._aside: dict[str, LabelledScan] = {}
        for number, (case, (image, label)) in enumerate(files.items()):
            progress.update(number / len(files), f"Reading {case}")
            scan = _scan(image, label)
            wanted = _wanted(scan.structures, source, is_aside=case in aside)
            if wanted:
                kept = {value: scan.structures[value] for value in wanted}
                (self._aside if case in aside else self._training)[case] = dataclasses.replace(scan, structures=kept)
        _check_training(self._training, source, data)

    @property
    def cases(self) -> tuple[list[str], list[str]]:
        """The names of the cases that are trained on, and of those that are kept aside."""
        return list(self._training), list(self._aside)

    def training_sample(self, draws: Draws) -> Sample:
        """Return a structure of a scan, or a slice of it.

        Raises
        ------
        RecipeError
            When hundreds of slices show less than 8 pixels of their structures.
        """
        scans = list(self._training.values())
        for _ in range(_MOST_SMALL):
            scan = scans[draws.whole(0, len(scans) - 1)]
            sample = _drawn(scan, self._recipe, draws)
            if sample is not None:
                return sample
        raise _too_small(self._source, self._recipe)

    def kept_aside(self) -> list[KeptAside]:
        """Return structures of the cases kept aside: of every kind as many, up to the recipe's number."""
        source = self._source
        by_value: dict[int, list[KeptAside]] = {}
        for case, scan in self._aside.items():
            for value in sorted(scan.structures):
                one = KeptAside(case, source.name_of(value), scan, value, value not in source.hold_out)
                by_value.setdefault(value, []).append(one)
        return _of_every_kind(by_value.values())[: self._recipe.evaluation.structures]


class LabelMapMaker:
    """Structures of label maps, which are held in memory; images are painted on them.

    Raises
    ------
    RecipeError
        When files are missing or cannot be used, or nothing is left to train on.
    """

    def __init__(self, source: LabelMapsSource, recipe: CorrectionRecipe, data: Path, progress: Progress) -> None:
        self.share, self._source, self._recipe = source.share, source, recipe
        files = _labels_of(source, data)
        aside = _cases_aside(files, source, recipe)
        read = read_anatomies(files, orientation=_ORIENTATION, spacing_mm=source.spacing, progress=progress)
        self._codes = read[0].codes
        self._training: dict[str, LabelMap] = {}
        self._aside: dict[str, LabelMap] = {}
        for anatomy in read:
            is_aside = anatomy.case in aside
            found = _label_map(anatomy)
            wanted = _wanted([self._codes[place] for place in found.structures], source, is_aside=is_aside)
            kept = {place: box for place, box in found.structures.items() if self._codes[place] in wanted}
            if kept:
                (self._aside if is_aside else self._training)[anatomy.case] = dataclasses.replace(
                    found, structures=kept
                )
        _check_training(self._training, source, data)

    @property
    def cases(self) -> tuple[list[str], list[str]]:
        """The names of the cases that are trained on, and of those that are kept aside."""
        return list(self._training), list(self._aside)

    def training_sample(self, draws: Draws) -> Sample:
        """Return a structure of a label map, or a slice of it, in an image that was never seen before.

        Raises
        ------
        RecipeError
            When hundreds of windows show less than 8 voxels of their structures.
        """
        maps = list(self._training.values())
        for _ in range(_MOST_SMALL):
            label_map = maps[draws.whole(0, len(maps) - 1)]
            value = _one_of(label_map, draws)
            sample = painted_sample(label_map, value, self._source, self._recipe, draws)
            if sample is not None:
                return sample
        raise _too_small(self._source, self._recipe)

    def kept_aside(self) -> list[KeptAside]:
        """Return structures of the cases kept aside, each case in one image: of every kind as many.

        The first structures of two kinds are of two cases.
        """
        source, by_place = self._source, dict[int, list[KeptAside]]()
        for number, (case, label_map) in enumerate(self._aside.items()):
            draws = Draws(_HELD_OUT_SEED + number)
            scan = painted_scan(label_map, source.painting, draws)
            for place in sorted(label_map.structures):
                code = self._codes[place]
                one = KeptAside(case, source.name_of(code), scan, place, code not in source.hold_out)
                by_place.setdefault(place, []).append(one)
        turned = [
            several[number % len(several) :] + several[: number % len(several)]
            for number, (_, several) in enumerate(sorted(by_place.items()))
        ]
        return _of_every_kind(turned)[: self._recipe.evaluation.structures]


class ShapeMaker:
    """Random shapes, painted."""

    cases: tuple[list[str], list[str]] = ([], [])

    def __init__(self, source: ShapesSource, recipe: CorrectionRecipe) -> None:
        self.share, self._source, self._recipe = source.share, source, recipe

    def training_sample(self, draws: Draws) -> Sample:
        """Return one of several shapes."""
        source, recipe = self._source, self._recipe
        # For slices a slab, into which they can be turned.
        size = (max(recipe.window) // _SLAB, *recipe.size) if recipe.is_flat else recipe.window
        while True:
            labels, classes = random_shapes(size, source.spacing, source.shapes, draws)
            contrast = random_contrast(classes, draws, black=draws.chance(0.5))
            image = paint(labels, contrast, source.painting, draws)
            scan = LabelledScan.of_arrays(image.numpy(), labels.numpy(), (source.spacing,) * 3)
            sample = _drawn(scan, recipe, draws, axes=(0,)) if scan.structures else None
            if sample is not None:
                return sample

    def kept_aside(self) -> list[KeptAside]:
        """Return nothing: shapes are no structures that anybody asks for."""
        return []


def _drawn(
    scan: LabelledScan, recipe: CorrectionRecipe, draws: Draws, *, axes: Sequence[int] = (0, 1, 2)
) -> Sample | None:
    """Return a structure of a scan; ``None`` where it is to be seen in a slice and cannot be."""
    value = _one_of(scan, draws)
    if recipe.is_flat:
        return slice_of(scan, value, recipe.samples, recipe.size, draws, axes=axes)
    return sample_of(scan, value, recipe.samples, recipe.window, draws)


def _one_of(label_map: LabelMap, draws: Draws) -> int:
    values = sorted(label_map.structures)
    return values[draws.whole(0, len(values) - 1)]


def makers_of(recipe: CorrectionRecipe, data: Path | None, progress: Progress = NO_PROGRESS) -> list[SampleMaker]:
    """Return a maker for each source of a recipe.

    Raises
    ------
    RecipeError
        When there is no data, or files are missing or cannot be used.
    """
    makers: list[SampleMaker] = []
    count = len(recipe.sources)
    for number, source in enumerate(recipe.sources):
        if isinstance(source, ShapesSource):
            makers.append(ShapeMaker(source, recipe))
            continue
        if data is None or not data.is_dir():
            raise RecipeError(
                "No folder of labelled scans or label maps was given.",
                advice="Give the folder that holds the sources with --data.",
            )
        part = progress.part(number / count, (number + 1) / count)
        if isinstance(source, LabelMapsSource):
            makers.append(LabelMapMaker(source, recipe, data, part))
        else:
            makers.append(ScanMaker(source, recipe, data, part))
    return makers


def _cases_aside(files: Iterable[str], source: LabelledSource, recipe: CorrectionRecipe) -> set[str]:
    order = list(files)
    random.Random(recipe.seed).shuffle(order)
    return set(order[: source.keep_aside])


def _wanted(values: Iterable[int], source: LabelledSource, *, is_aside: bool) -> set[int]:
    """Return those of the labels that are structures, to train on or, in a case kept aside, to measure."""
    return {*values} - {*source.ignore} - (set() if is_aside else {*source.hold_out})


def _check_training(training: Collection[str], source: LabelledSource, data: Path) -> None:
    if not training:
        raise RecipeError(
            f"The labels in {data / source.folder} show no structure to train on.",
            advice="Correct keep_aside, hold_out and ignore of this source.",
        )


def _too_small(source: LabelledSource, recipe: CorrectionRecipe) -> RecipeError:
    where = "slices" if recipe.is_flat else "windows"
    return RecipeError(
        f"The structures in {source.folder} are too small to be seen in {where}.",
        advice="Leave this source out, or lower samples.edge_mm.",
    )


def _of_every_kind(kinds: Iterable[Sequence[KeptAside]]) -> list[KeptAside]:
    """Return the first of every kind, then the second of every kind, and so on."""
    columns = itertools.zip_longest(*kinds)
    return [one for column in columns for one in column if one is not None]


def _label_map(anatomy: Anatomy) -> LabelMap:
    labels = np.ascontiguousarray(anatomy.labels.numpy().transpose(2, 1, 0))
    return LabelMap.of_labels(labels, (anatomy.spacing_mm,) * 3)


def _labels_of(source: ScansSource | LabelMapsSource, data: Path) -> dict[str, Path]:
    from medseg.training.pairs import matching

    folder = data / source.folder
    labels = matching(folder, source.pattern) if folder.is_dir() else {}
    if not labels:
        raise RecipeError(
            f"The folder {folder} has no files like {source.pattern}.",
            advice="Correct the folder and the file names of this source.",
        )
    return labels


def _files(source: ScansSource, data: Path) -> dict[str, tuple[Path, Path]]:
    folder = data / source.folder
    found = {case: (folder / source.image.format(case=case), path) for case, path in _labels_of(source, data).items()}
    missing = [str(image) for image, _ in found.values() if not image.is_file()]
    if missing:
        raise RecipeError(
            f"{len(missing)} label maps have no image, such as {missing[0]}.", advice="Correct image of this source."
        )
    return found


def _scan(image: Path, label: Path) -> LabelledScan:
    from medseg.volumes import read_labelmap, read_volume

    try:
        volumes: tuple[Volume, Volume] = (read_volume(image), read_labelmap(label))
    except MedSegError as error:
        raise RecipeError(f"A scan cannot be used: {error.message}", advice=error.advice) from error
    if not volumes[0].geometry.is_close(volumes[1].geometry):
        raise RecipeError(
            f"{image.name} and {label.name} do not lie on one grid.", advice="Resample the label map to the image."
        )
    return LabelledScan.of(*volumes)
