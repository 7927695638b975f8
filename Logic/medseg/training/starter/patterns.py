"""How the files of a data folder are named: the patterns that people use, tried one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import RecipeError
from medseg.training.pairs import matching
from medseg.volumes.folders import ENDINGS

if TYPE_CHECKING:
    from pathlib import Path

_BESIDE = ("_label", "-label", "_labels", "_seg", "-seg", "_segmentation", "_mask", "_gt", "_labelmap")
_FOLDERS = (
    ("imagesTr", "labelsTr"),
    ("images", "labels"),
    ("image", "label"),
    ("images", "masks"),
    ("images", "segmentations"),
    ("imgs", "labels"),
)
_INSIDE = (("image", "label"), ("img", "label"), ("image", "seg"), ("image", "mask"), ("image", "segmentation"))
_MOST_CHANNELS = 8


@dataclass(frozen=True)
class Files:
    """Patterns of the images (one for each channel) and of the labels; none for a table of pairs."""

    images: tuple[str, ...] = ()
    label: str | None = None


def guess_files(data: Path) -> Files:
    """Return how the files of a folder are named.

    Raises
    ------
    RecipeError
        When the data do not exist or follow none of the usual patterns.
    """
    if data.is_file():
        return Files()
    if not data.is_dir():
        raise RecipeError(f"The data {data} does not exist.", advice="Give a folder or a table of pairs with --data.")
    best, most = Files(), 0
    for images, label in _candidates(data):
        labels = matching(data, label)
        found = [set(matching(data, pattern)) & set(labels) for pattern in images]
        count = min(len(cases) for cases in found)
        if count > most:
            best, most = Files(images, label), count
    if not most:
        raise RecipeError(
            f"No images with labels were recognised in {data}.",
            advice="Name them like case_1.nii.gz and case_1_label.nii.gz, put them into folders images and labels, or "
            "list them in a table with the columns image and label.",
        )
    return best


def _candidates(folder: Path) -> list[tuple[tuple[str, ...], str]]:
    endings = [ending for ending in ENDINGS if next(folder.rglob(f"*{ending}"), None) is not None]
    found: list[tuple[tuple[str, ...], str]] = []
    for ending in endings:
        for images, labels in _FOLDERS:
            numbered = tuple(f"{images}/{{case}}_{channel:04d}{ending}" for channel in range(_MOST_CHANNELS))
            present = tuple(pattern for pattern in numbered if matching(folder, pattern))
            if present:
                found.append((present, f"{labels}/{{case}}{ending}"))
            found += [((f"{images}/{{case}}{ending}",), f"{labels}/{{case}}{end}{ending}") for end in ("", *_BESIDE)]
        found += [((f"{{case}}{ending}",), f"{{case}}{end}{ending}") for end in _BESIDE]
        found.append(((f"{{case}}_image{ending}",), f"{{case}}_label{ending}"))
        found += [((f"{{case}}/{image}{ending}",), f"{{case}}/{label}{ending}") for image, label in _INSIDE]
    return found
