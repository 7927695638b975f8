"""The sources of a correction recipe at work: scans found and read, samples made of them, structures kept aside."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from medseg.errors import MedSegError, RecipeError
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.correction.samples import LabelledScan, Sample, sample_of, slice_of
from medseg.training.correction.sources import ScansSource, ShapesSource
from medseg.training.synthesis.painting import paint, random_contrast
from medseg.training.synthesis.shapes import random_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.training.correction.recipe import CorrectionRecipe
    from medseg.training.synthesis import Draws
    from medseg.volumes import Volume


_MOST_SMALL = 200
_SLAB = 8
"""A slab of shapes has an eighth of the slices that a cube would have."""


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
        order = list(files)
        random.Random(recipe.seed).shuffle(order)
        aside = set(order[: source.keep_aside])
        self._training: dict[str, LabelledScan] = {}
        self._aside: dict[str, LabelledScan] = {}
        for number, (case, (image, label)) in enumerate(files.items()):
            progress.update(number / len(files), f"Reading {case}")
            scan = _scan(image, label)
            kept = {value: box for value, box in scan.structures.items() if value not in source.ignore}
            if case not in aside:
                kept = {value: box for value, box in kept.items() if value not in source.hold_out}
            if kept:
                found = LabelledScan(scan.image, scan.labels, scan.spacing, kept)
                (self._aside if case in aside else self._training)[case] = found
        if not self._training:
            raise RecipeError(
                f"The scans of {data / source.folder} show no structure to train on.",
                advice="Correct keep_aside, hold_out and ignore of this source.",
            )

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
        raise RecipeError(
            f"The structures in {self._source.folder} are too small to be seen in slices.",
            advice="Leave this source out, or lower samples.edge_mm.",
        )

    def kept_aside(self) -> list[KeptAside]:
        """Return structures of the cases kept aside: of every kind as many, up to the recipe's number."""
        source, found = self._source, []
        by_value: dict[int, list[KeptAside]] = {}
        for case, scan in self._aside.items():
            for value in sorted(scan.structures):
                name = source.names.get(value, f"{source.folder} {value}")
                one = KeptAside(case, name, scan, value, value not in source.hold_out)
                by_value.setdefault(value, []).append(one)
        for place in range(max(map(len, by_value.values()), default=0)):
            found += [several[place] for several in by_value.values() if place < len(several)]
        return found[: self._recipe.evaluation.structures]


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
    values = sorted(scan.structures)
    value = values[draws.whole(0, len(values) - 1)]
    if recipe.is_flat:
        return slice_of(scan, value, recipe.samples, recipe.size, draws, axes=axes)
    return sample_of(scan, value, recipe.samples, recipe.window, draws)


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
                "No folder of labelled scans was given.", advice="Give the folder that holds the sources with --data."
            )
        part = progress.part(number / count, (number + 1) / count)
        makers.append(ScanMaker(source, recipe, data, part))
    return makers


def _files(source: ScansSource, data: Path) -> dict[str, tuple[Path, Path]]:
    from medseg.training.pairs import matching

    folder = data / source.folder
    labels = matching(folder, source.label) if folder.is_dir() else {}
    if not labels:
        raise RecipeError(
            f"The folder {folder} has no files like {source.label}.", advice="Correct folder and label of this source."
        )
    found = {case: (folder / source.image.format(case=case), path) for case, path in labels.items()}
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
