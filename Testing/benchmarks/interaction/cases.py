"""The structures: those that the recipe of the network keeps aside, and those of data sets that it does not name."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.progress import NO_PROGRESS
from medseg.training.correction.makers import ScanMaker
from medseg.training.correction.sources import ScansSource
from medseg.volumes import Geometry, Volume, read_labelmap, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from medseg.training.correction.makers import KeptAside
    from medseg.training.correction.recipe import CorrectionRecipe

_EVERYTHING = 1_000_000
_FEWEST = 300
"""Voxels of a structure of the crop of the trunk, whose labels another program made."""

Scan = tuple[Volume, np.ndarray]
"""A volume of one channel, and where the structure is, (k, j, i) bool."""


@dataclass(frozen=True)
class Case:
    """One structure of one scan.

    Attributes
    ----------
    group, scan, structure
        What they are called.
    seen
        Whether structures of its kind were trained on, in other scans.
    build
        Reads or makes the volume and the truth.
    """

    group: str
    scan: str
    structure: str
    seen: bool
    build: Callable[[], Scan]

    @property
    def name(self) -> str:
        """Of the scan and the structure."""
        return f"{self.scan} {self.structure}"


@dataclass(frozen=True)
class Group:
    """The structures of one table.

    Attributes
    ----------
    title, about
        Heading, and a sentence on what is in it.
    seen
        Whether structures of their kinds were trained on, in other scans.
    load
        Returns its structures; those of the first scans first.
    notes
        What limits the conclusions.
    """

    title: str
    about: str
    seen: bool
    load: Callable[[], list[Case]]
    notes: tuple[str, ...] = ()


def groups(recipe: CorrectionRecipe, data: Path) -> dict[str, Group]:
    """Return the tables for which the folder of real volumes holds the files, in their order.

    Nothing is read before a group is loaded.
    """
    sources = [source for source in recipe.sources if isinstance(source, ScansSource)]
    found: dict[str, Group] = {}
    for source in sources:
        if (data / source.folder).is_dir():
            found.update(_kept_aside(source, recipe, data))
    trained = {source.folder for source in sources}
    others = (other for other in _OTHERS if other.folder not in trained and (data / other.folder).is_dir())
    return {**found, **{other.folder: other.group(data) for other in others}}


def _kept_aside(source: ScansSource, recipe: CorrectionRecipe, data: Path) -> Iterable[tuple[str, Group]]:
    """Return a group of the structures that were trained on in other scans, and one of those that were held out."""

    @functools.cache
    def kept() -> list[KeptAside]:
        # The code of the training says which scans these are; the recipe's number of structures is one for training.
        everything = recipe.evaluation.model_copy(update={"structures": _EVERYTHING})
        whole = recipe.model_copy(update={"evaluation": everything})
        return ScanMaker(source, whole, data, NO_PROGRESS).kept_aside()

    def load(name: str, *, seen: bool) -> list[Case]:
        return [
            Case(name, one.case, one.structure, seen, functools.partial(_scan_of, one))
            for one in kept()
            if one.seen == seen
        ]

    name = source.folder
    about = (
        "Scans that the recipe of the network keeps aside; structures of these kinds were trained on in other scans."
    )
    yield name, Group(f"{name}, structures trained on", about, seen=True, load=functools.partial(load, name, seen=True))
    if source.hold_out:
        name = f"{source.folder}-held-out"
        about = "Scans that the recipe keeps aside; structures of these kinds were trained on in no scan."
        title = f"{source.folder}, structures held out"
        yield name, Group(title, about, seen=False, load=functools.partial(load, name, seen=False))


def _scan_of(kept: KeptAside) -> Scan:
    scan = kept.scan
    volume = Volume(scan.image, Geometry.from_spacing(scan.image.shape, scan.spacing[::-1]))
    return volume, scan.labels == kept.value


def _hearts(folder: Path) -> list[Case]:
    names = {1: "Right ventricle", 2: "Myocardium", 3: "Left ventricle"}
    patients = sorted(path.name.removesuffix("_ed.nii.gz") for path in folder.glob("*_ed.nii.gz"))
    return [
        _case(folder, f"{patient}_ed", f"{patient}_ed_gt", structure, value)
        for patient in patients
        for value, structure in names.items()
    ]


def _sarcomas(folder: Path) -> list[Case]:
    found = sorted(folder.glob("*_gtv.nii.gz"))
    scans = [path.name.removesuffix("_gtv.nii.gz") for path in found]
    return [
        _case(folder, scan, f"{scan}_gtv", f"Sarcoma in {kind}")
        for scan in scans
        for ending, kind in (("_ct", "CT"), ("_mrt1", "MR"))
        if scan.endswith(ending)
    ]


def _tumour(folder: Path) -> list[Case]:
    return [_case(folder, "ibsi1_ct", "ibsi1_gtv", "Lung tumour")]


def _lungs(folder: Path) -> list[Case]:
    return [_case(folder, f"{name}_ct", f"{name}_lungmask", "Lungs") for name in ("baseline", "followup")]


def _trunk(folder: Path) -> list[Case]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
        names = {int(row["value"]): row["name"].replace("_", " ") for row in csv.DictReader(stream)}
    counts = np.bincount(read_labelmap(folder / "example_seg.nii.gz").array.ravel())
    values = [value for value, count in enumerate(counts) if value and count >= _FEWEST]
    return [_case(folder, "example_ct_sm", "example_seg", names[value], value) for value in values]


def _case(folder: Path, image: str, label: str, structure: str, value: int = 1) -> Case:
    build = functools.partial(_read, folder / f"{image}.nii.gz", folder / f"{label}.nii.gz", value)
    return Case(folder.name, image, structure, seen=False, build=build)


def _read(image: Path, label: Path, value: int) -> Scan:
    volume = read_volume(image)
    return volume.with_array(volume.array.astype(np.float32)), read_labelmap(label).array == value


@dataclass(frozen=True)
class _Other:
    """A data set that no source of the recipe names."""

    folder: str
    about: str
    load: Callable[[Path], list[Case]]
    notes: tuple[str, ...] = ()

    def group(self, data: Path) -> Group:
        title, about = f"{self.folder}, a data set never trained on", f"{self.about} Nothing of it was trained on."
        return Group(title, about, seen=False, load=lambda: self.load(data / self.folder), notes=self.notes)


_OTHERS = (
    _Other("mr-cardiac-cine", "Cine MR of six hearts, end-diastole, slices of 10 mm.", _hearts),
    _Other("ct-mr-pet-sarcoma", "CT and T1 MR of four patients with a soft-tissue sarcoma.", _sarcomas),
    _Other("ct-chest-tumour", "CT of one lung tumour.", _tumour),
    _Other(
        "ct-lung-pair",
        "Both lungs of one patient together, in two CT.",
        _lungs,
        ("They are about 30 cm long: beyond what the network was made for, and beyond its largest window.",),
    ),
    _Other(
        "ct-totalseg",
        f"Organs and bones of at least {_FEWEST} voxels in one crop of the trunk, 3 mm.",
        _trunk,
        ("Its labels were made by another program: no truth, but something to agree with.",),
    ),
)
