"""Whether cases can be trained on, all of them looked at before the first step, and what they are like."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError, RecipeError
from medseg.files import atomic_path
from medseg.training.data import annotated_labels, translated
from medseg.volumes import check_image, read_labelmap, read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.training.pairs import Pair, Split
    from medseg.training.recipe import Recipe
    from medseg.volumes import Geometry, Volume

_LARGEST_FILE_VALUE = 65535
_LARGEST_INSTANCE = 32767
"""Numbers of instances are held as signed 16-bit integers."""
_MOST_VALUES_NAMED = 8
_SAMPLE = 200_000


@dataclass(frozen=True)
class CaseFacts:
    """What a case is like.

    Attributes
    ----------
    size, spacing
        Of the image as it is in the file: voxels and mm along i, j, k.
    intensity
        The 0.5th and 99.5th percentile of the (first) image, in its own unit.
    voxels
        Of each label of the table, in the label file's grid.
    annotated
        Values of the labels that are annotated.
    """

    case: str
    split: Split
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str
    intensity: tuple[float, float]
    voxels: dict[int, int]
    annotated: tuple[int, ...]


@dataclass(frozen=True)
class CheckedCase:
    """A case that can be trained on: its images and its label as they are in the files."""

    images: tuple[Volume, ...]
    label: Volume
    facts: CaseFacts


@dataclass
class CaseChecker:
    """Looks at one case after the other and remembers what was wrong, and which images it has seen."""

    recipe: Recipe
    labels: LabelTable
    problems: list[str] = field(default_factory=list)
    facts: list[CaseFacts] = field(default_factory=list)
    _seen: dict[bytes, str] = field(default_factory=dict)

    def check(self, pair: Pair, split: Split) -> CheckedCase | None:
        """Read a case and check it; ``None`` when it cannot be trained on."""
        try:
            images = tuple(read_volume(path) for path in pair.images)
            label = read_labelmap(pair.label)
        except InputError as error:
            self.problems.append(f"{pair.case}: cannot be read ({error.message.rstrip('.')})")
            return None
        try:
            orientation = self.recipe.preprocessing.orientation
            images, label = self.recipe.loss.on_one_grid(images, label, orientation, split)
        except InputError as error:
            self.problems.append(f"{pair.case}: {error.message.rstrip('.')}")
            return None
        found = [*self._of_images(pair, images), *self._of_label(pair, images[0], label)]
        if found:
            self.problems.append(f"{pair.case}: {' and '.join(found)}")
            return None
        facts = self._facts(pair, split, images[0], label)
        self.facts.append(facts)
        return CheckedCase(images, label, facts)

    def refuse(self, total: int) -> None:
        """Raise :class:`RecipeError` with every bad case in one sentence, when there is one."""
        if not self.problems:
            return
        raise RecipeError(
            f"{len(self.problems)} of {total} cases cannot be trained on: {'; '.join(self.problems)}.",
            advice="Repair these files or take the cases out of the data.",
        )

    def _of_images(self, pair: Pair, images: Sequence[Volume]) -> list[str]:
        found = []
        for number, image in enumerate(images):
            name = "the image" if len(images) == 1 else f"image {number + 1}"
            if not _is_finite(image):
                found.append(f"{name} holds values that are not numbers")
                continue
            try:
                check_image(image, purpose="training", minimum_slices=self.recipe.package.minimum_slices)
            except InputError as error:
                found.append(f"{name} cannot be used ({error.message.rstrip('.')})")
                continue
            digest = hashlib.blake2b(image.array.data, digest_size=16).digest() + str(image.geometry.shape).encode()
            other = self._seen.setdefault(digest, pair.case)
            if other != pair.case:
                found.append(f"{name} is the same as that of {other}")
            elif number and not _overlap(images[0].geometry, image.geometry):
                found.append(f"{name} lies beside the first image")
        return found

    def _of_label(self, pair: Pair, image: Volume, label: Volume) -> list[str]:
        section = self.recipe.data
        if not image.geometry.is_close(label.geometry):
            return [
                f"image and label lie on different grids ({described(image.geometry)} and {described(label.geometry)})"
            ]
        values = set(np.unique(label.array).tolist()) - {0}
        known = set(self.labels.values) if section.values is None else set(section.values)
        largest = _LARGEST_INSTANCE if section.instances else _LARGEST_FILE_VALUE
        impossible = sorted(value for value in values if not 0 < value <= largest)
        if impossible:
            return [f"the label holds the values {_listed(impossible)}, which are not 1 to {largest}"]
        unknown = sorted(values - known)
        if unknown and section.values is None:
            return [f"the label holds the values {_listed(unknown)}, which the label table does not name"]
        if not values & known and not section.allow_empty:
            return ["the label is empty"]
        if pair.annotated is not None:
            drawn = set(np.unique(translated(label, section).array).tolist()) - {0}
            contradiction = [self.labels.by_value(value).name for value in sorted(drawn - set(pair.annotated))]
            if contradiction:
                return [f"the label holds {', '.join(contradiction)}, which the table says is not annotated"]
        return []

    def _facts(self, pair: Pair, split: Split, image: Volume, label: Volume) -> CaseFacts:
        named = translated(label, self.recipe.data)
        values, counts = np.unique(named.array, return_counts=True)
        voxels = dict(zip(values.tolist(), counts.tolist(), strict=True))
        flat = image.array.reshape(-1)
        low, high = np.percentile(flat[:: max(1, flat.size // _SAMPLE)], [0.5, 99.5])
        return CaseFacts(
            case=pair.case,
            split=split,
            size=image.geometry.size,
            spacing=image.geometry.spacing,
            orientation=image.geometry.orientation,
            intensity=(float(low), float(high)),
            voxels={value: int(voxels.get(value, 0)) for value in self.labels.values},
            annotated=annotated_labels(pair, named, self.labels, self.recipe.data),
        )


def write_facts(facts: Sequence[CaseFacts], labels: LabelTable, path: Path) -> None:
    """Write what the cases are like as CSV; the voxels of a label that is not annotated are left empty."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        head = ["case", "split", "size_i", "size_j", "size_k", "spacing_i_mm", "spacing_j_mm", "spacing_k_mm"]
        writer.writerow(
            [*head, "orientation", "intensity_low", "intensity_high", *(f"voxels of {n}" for n in labels.names)]
        )
        for case in facts:
            voxels = [case.voxels[value] if value in case.annotated else "" for value in labels.values]
            numbers = [f"{step:.6g}" for step in (*case.spacing,)]
            limits = [f"{value:.6g}" for value in case.intensity]
            writer.writerow([case.case, case.split, *case.size, *numbers, case.orientation, *limits, *voxels])


def described(geometry: Geometry) -> str:
    """Return size, spacing, orientation and place of a grid, so that two that differ look different."""
    size, spacing = geometry.size, geometry.spacing
    first = ", ".join(f"{value:.4g}" for value in geometry.ijk_to_ras[:3, 3])
    return (
        f"{size[0]} x {size[1]} x {size[2]} voxels of {spacing[0]:.3g} x {spacing[1]:.3g} x {spacing[2]:.3g} mm, "
        f"{geometry.orientation} from ({first})"
    )


def _is_finite(image: Volume) -> bool:
    return image.array.dtype.kind != "f" or all(bool(np.isfinite(part).all()) for part in image.array)


def _overlap(first: Geometry, second: Geometry) -> bool:
    """Return whether the boxes of two grids along the axes of the world have anything in common."""
    boxes = []
    for geometry in (first, second):
        last = np.asarray(geometry.size) - 1.0
        corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * last
        points = geometry.ijk_to_ras_points(corners)
        boxes.append((points.min(0), points.max(0)))
    (low, high), (other_low, other_high) = boxes
    return bool((low <= other_high).all() and (other_low <= high).all())


def _listed(values: Sequence[int]) -> str:
    if len(values) <= _MOST_VALUES_NAMED:
        return str(list(values))
    return f"{list(values[:_MOST_VALUES_NAMED])} and {len(values) - _MOST_VALUES_NAMED} more"
