"""What numbers cost on short ranges: the learning part of the claim ``arbitrary-range``.

Slice models that differ in their outputs only learn from the same windows of phantom torsos: groups alone, whose
connected components are the bones; groups with embeddings of all bones, or of vertebrae alone (the paper's best);
numbered classes for every bone. The numbered one begins
with the weights of the groups, which draw every bone already, so that only numbers are left to learn, and is trained
on for as long again. Each is run through the project's own pipeline on torsos it has not seen, cut to short ranges and
whole.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.claims.fitting import fit, is_fast_in_bfloat16, keep_freed_memory, mean_of, seed_everything
from benchmarks.claims.phantom_torso import MOST_VERTEBRAE, ORGANS, PLANE, RIB_PAIRS, Torso, random_torso
from medseg.analysis.panoptic import Panoptic, panoptic_quality, pooled
from medseg.analysis.small_objects import remove_small_instances
from medseg.labels import Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE, TISSUE
from medseg.losses import discriminative_loss, marginal_cross_entropy, missing_label_dice
from medseg.metrics import dice
from medseg.models import InputSlot, InstanceGroup, Instances, ModelPackage, Preprocessing, WeightsFile, Window
from medseg.networks import SliceModel
from medseg.progress import Progress
from medseg.segmentation import SegmentOptions, segment
from medseg.volumes import Geometry, Volume

SLICES = 32
_FIRST_BONE = len(ORGANS) + 1
VERTEBRAE, LEFT_RIBS, RIGHT_RIBS = _FIRST_BONE, _FIRST_BONE + 1, _FIRST_BONE + 2
_FIRST_RIB = _FIRST_BONE + MOST_VERTEBRAE
_LEAST_VERTEBRA, _LEAST_RIB = 16, 8
"""Voxels of the smallest bone that counts, in predictions and in the truth alike, unless the range has cut it."""

_EMBEDDING = 8


@dataclasses.dataclass(frozen=True)
class System:
    """One way to tell bones apart."""

    name: str
    numbered: bool = False
    vertebrae: str = "components"
    ribs: str = "components"

    @property
    def classes(self) -> int:
        return _FIRST_RIB + 2 * RIB_PAIRS if self.numbered else RIGHT_RIBS + 1

    @property
    def groups(self) -> tuple[int, ...]:
        """The labels whose instances the embeddings separate."""
        found = [VERTEBRAE] if self.vertebrae == "embedding" else []
        return (*found, *((LEFT_RIBS, RIGHT_RIBS) if self.ribs == "embedding" else ()))


COMPONENTS, EMBEDDINGS, BOTH, NUMBERED = SYSTEMS = (
    System("groups + components"),
    System("groups + embeddings", vertebrae="embedding", ribs="embedding"),
    System("groups, vertebrae by embeddings, ribs by components", vertebrae="embedding"),
    System("numbered classes", numbered=True),
)
SHORT, WHOLE, TOUCHING = "32 to 48 slices", "whole torso", "whole torso, ribs that touch"
_BRIDGES = 4


class Scale(NamedTuple):
    """How much is done."""

    steps: int
    torsos: int
    scans: int


FULL, QUICK = Scale(250, 48, 8), Scale(1, 2, 1)


def classes_of(torso: Torso, *, numbered: bool) -> np.ndarray:
    """Return the label of each voxel, uint8."""
    classes = torso.organs.copy()
    spine, ribs = torso.vertebrae > 0, torso.ribs > 0
    if numbered:
        classes[spine] = _FIRST_BONE - 1 + torso.vertebrae[spine]
        classes[ribs] = _FIRST_RIB - 1 + torso.ribs[ribs]
        return classes
    classes[spine] = VERTEBRAE
    classes[ribs] = np.where(torso.ribs[ribs] <= RIB_PAIRS, LEFT_RIBS, RIGHT_RIBS)
    return classes


def instances_of(torso: Torso) -> np.ndarray:
    """Return a number for each bone, int16, unique over vertebrae and ribs."""
    return np.where(torso.ribs > 0, MOST_VERTEBRAE + torso.ribs, torso.vertebrae).astype(np.int16)


def trained(
    system: System,
    torsos: list[Torso],
    scale: Scale,
    seed: int,
    progress: Progress,
    *,
    groups: nn.Module | None = None,
) -> nn.Module:
    """Return a slice model trained on random windows of ``torsos``, the same for every system of a seed.

    A system with numbers starts from the network ``groups``, which tells the groups apart.
    """
    seed_everything(seed)
    keep_freed_memory()
    network = SliceModel(
        1,
        system.classes,
        embedding_channels=_EMBEDDING if system.groups else None,
        slices=SLICES,
        plane=PLANE,
        stem_width=8,
        stem_poolings=1,
        width=64,
        attention_heads=4,
        mlp_width=64,
        taps=(1, 2, 3),
        decoder_width=24,
        shallow_width=8,
        final_width=16,
        dropout=0.0,
        norm="instance",
        projection=True,
    )
    if system.numbered and groups is not None:
        _start_from(network, groups)
    generator = np.random.default_rng(1000 + seed)

    def draw(_step: int) -> tuple[Tensor, Tensor, Tensor]:
        torso = torsos[int(generator.integers(len(torsos)))]
        start = int(generator.integers(0, len(torso.image) - SLICES + 1))
        window = torso.cut(start, SLICES)
        arrays = (window.image, classes_of(window, numbered=system.numbered), instances_of(window))
        image, classes, instances = (torch.from_numpy(np.ascontiguousarray(part.T))[None] for part in arrays)
        return image[None], classes, instances

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        image, classes, instances = batch
        with torch.autocast("cpu", torch.bfloat16, enabled=is_fast_in_bfloat16()):
            output = model(image)
        scores, embeddings = output if system.groups else (output, None)
        annotated = torch.ones(1, system.classes, dtype=torch.bool)
        value = missing_label_dice(scores.float().softmax(1), classes, annotated)
        value = value + marginal_cross_entropy(scores, classes, annotated)
        if embeddings is not None:
            value = value + discriminative_loss(embeddings, classes, instances, system.groups)
        return value

    fit(network, draw, loss, steps=scale.steps, lr=3e-3, gradient_norm=1.0, progress=progress)
    return network


def _start_from(network: nn.Module, groups: nn.Module) -> None:
    """Copy what fits of the weights; each number begins as an equal share of its group's probability."""
    group_of = (
        list(range(_FIRST_BONE)) + [VERTEBRAE] * MOST_VERTEBRAE + [LEFT_RIBS] * RIB_PAIRS + [RIGHT_RIBS] * RIB_PAIRS
    )
    share = torch.tensor([float(np.log(group_of.count(group))) for group in group_of])
    weights = network.state_dict()
    for name, old in groups.state_dict().items():
        if old.shape == weights[name].shape:
            weights[name] = old.clone()
        elif len(old) == RIGHT_RIBS + 1:
            weights[name] = old[group_of] - share if old.ndim == 1 else old[group_of]
    network.load_state_dict(weights)


def package_of(system: System) -> ModelPackage:
    """Return a package without files that says how the system's output is turned into bones."""
    names = [*ORGANS, "vertebrae", "left ribs", "right ribs"]
    if system.numbered:
        names = [*ORGANS, *(f"vertebra {n + 1}" for n in range(MOST_VERTEBRAE))]
        names += [f"{side} rib {n + 1}" for side in ("left", "right") for n in range(RIB_PAIRS)]
    labels = LabelTable(
        [Label(value, name, (200, 200, 200), ANATOMICAL_STRUCTURE, TISSUE) for value, name in enumerate(names, 1)]
    )
    section = Instances(
        (
            InstanceGroup(VERTEBRAE, system.vertebrae, "overwrite", minimum_voxels=_LEAST_VERTEBRA),
            InstanceGroup(LEFT_RIBS, system.ribs, "join", minimum_voxels=_LEAST_RIB),
            InstanceGroup(RIGHT_RIBS, system.ribs, "join", minimum_voxels=_LEAST_RIB),
        )
    )
    return ModelPackage(
        folder=Path("nowhere"), name="phantom-torso", title="", description="", version="1", license="", verb="segment",
        inputs=(InputSlot(minimum_slices=2),), labels=labels, output_channels=system.classes,
        network_target="medseg.networks.SliceModel", network_arguments={}, preprocessing=Preprocessing("LPI"),
        window=Window((PLANE, PLANE, SLICES), 0.5), weights=WeightsFile(Path("nowhere.pt"), "0" * 64, 1),
        instances=None if system.numbered else section,
    )  # fmt: skip


@dataclasses.dataclass
class Figures:
    """How a system did on a set of scans; lists have one entry a scan, Dice of what occurs in the truth."""

    vertebrae: Panoptic = dataclasses.field(default_factory=Panoptic)
    ribs: Panoptic = dataclasses.field(default_factory=Panoptic)
    numbered_dice: list[float] = dataclasses.field(default_factory=list)
    group_dice: list[float] = dataclasses.field(default_factory=list)

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, field.name) + getattr(other, field.name) for field in dataclasses.fields(self)))


def judged(system: System, network: nn.Module, scans: list[Torso]) -> Figures:
    """Return the figures of a system on ``scans``, run through the pipeline."""
    figures = Figures()
    package = package_of(system)
    options = SegmentOptions(device="cpu", statistics=False)
    for scan in scans:
        geometry = Geometry.from_spacing(scan.image.shape, (3.0, 3.0, 3.0), orientation="LPI")
        result = segment([Volume(scan.image, geometry)], package, options, network=network)
        figures += _compared(system, result.labelmap.array, result.labels, scan)
    return figures


def _compared(system: System, labels: np.ndarray, table: LabelTable, scan: Torso) -> Figures:
    if system.numbered:
        spine = np.where((labels >= _FIRST_BONE) & (labels < _FIRST_RIB), labels, 0).astype(np.int32)
        left = np.where((labels >= _FIRST_RIB) & (labels < _FIRST_RIB + RIB_PAIRS), labels, 0).astype(np.int32)
        right = np.where(labels >= _FIRST_RIB + RIB_PAIRS, labels, 0).astype(np.int32)
        true = classes_of(scan, numbered=True)
        present = [value for value in np.unique(true) if _FIRST_BONE <= value < _FIRST_RIB]
        numbered = [mean_of(dice(labels == value, true == value) for value in present)]
    else:
        parts = {}
        for stem in ("vertebrae", "left ribs", "right ribs"):
            values = [label.value for label in table if label.name.startswith(f"{stem} ")]
            parts[stem] = np.where(np.isin(labels, values), labels, 0).astype(np.int32)
        spine, left, right = parts.values()
        numbered = []
    sides = (np.where(scan.ribs <= RIB_PAIRS, scan.ribs, 0), np.where(scan.ribs > RIB_PAIRS, scan.ribs, 0))
    return Figures(
        vertebrae=_quality(spine, scan.vertebrae, _LEAST_VERTEBRA),
        ribs=pooled(_quality(ours, theirs, _LEAST_RIB) for ours, theirs in zip((left, right), sides, strict=True)),
        numbered_dice=numbered,
        group_dice=[dice(spine > 0, scan.vertebrae > 0)],
    )


def _quality(ours: np.ndarray, theirs: np.ndarray, least: int) -> Panoptic:
    """Compare after the same rule for small objects on both sides: the range leaves slivers of bones in the truth."""
    ours, theirs = ours.copy(), theirs.copy()
    for side in (ours, theirs):
        remove_small_instances(side, least)
    return panoptic_quality(ours, theirs)


@functools.cache
def _torsos(seed: int, count: int) -> list[Torso]:
    generator = np.random.default_rng(seed)
    return [random_torso(generator) for _ in range(count)]


def scans_of(seed: int, scale: Scale) -> dict[str, list[Torso]]:
    """Return unseen torsos of a seed: cut to 32 to 48 slices, whole, and others with four pairs of ribs joined."""
    whole = _torsos(90_000 + seed, scale.scans)
    generator = np.random.default_rng(80_000 + seed)
    short = []
    for torso in whole:
        slices = int(generator.integers(SLICES, 3 * SLICES // 2 + 1))
        short.append(torso.cut(int(generator.integers(0, len(torso.image) - slices + 1)), slices))
    touching = [random_torso(generator, bridges=_BRIDGES) for _ in range(scale.scans)]
    return {SHORT: short, WHOLE: whole, TOUCHING: touching}


def learned(scale: Scale, seeds: int, progress: Progress) -> dict[str, dict[str, list[Figures]]]:
    """Train and judge every system for every seed; return range -> system -> figures, one a seed."""
    found: dict[str, dict[str, list[Figures]]] = {}
    runs = [(seed, system) for seed in range(seeds) for system in SYSTEMS]
    groups: nn.Module | None = None
    for index, (seed, system) in enumerate(runs):
        part = progress.part(index / len(runs), (index + 1) / len(runs))
        network = trained(system, _torsos(seed, scale.torsos), scale, seed, part, groups=groups)
        if system is SYSTEMS[0]:
            groups = network
        for name, scans in scans_of(seed, scale).items():
            found.setdefault(name, {}).setdefault(system.name, []).append(judged(system, network, scans))
    return found


def summary(figures: list[Figures]) -> dict[str, Any]:
    """Return the figures pooled over seeds and scans."""
    whole = sum(figures[1:], start=figures[0])
    return {
        "vertebra": whole.vertebrae,
        "rib": whole.ribs,
        "numbered": mean_of(whole.numbered_dice),
        "group": mean_of(whole.group_dice),
    }
