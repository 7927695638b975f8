"""The verb *Segment*: volumes and a model package in, a labelmap on the first volume's own grid out.

Check, orient, resample, normalise; run the network window by window and turn its scores into labels slab by slab
(:mod:`medseg.segmentation.sliding`); clean up; turn back; measure. Imports torch: import it through
:func:`medseg.segmentation.segment`.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.device import available_memory, choose_device, release_memory
from medseg.errors import Cancelled, DeviceMemoryError
from medseg.models import load_network
from medseg.networks.registry import ALLOWED_MODULES
from medseg.progress import NO_PROGRESS, Progress
from medseg.segmentation.estimate import memory_of, plan_shown, score_limit
from medseg.segmentation.inputs import check_inputs
from medseg.segmentation.instances import nearest_on, segment_instances
from medseg.segmentation.postprocessing import clean_labels
from medseg.segmentation.predictor import Predictor, considerate_threads
from medseg.segmentation.preparers import preparer_of
from medseg.segmentation.preprocess import box_within
from medseg.segmentation.results import SegmentationResult, SegmentOptions
from medseg.segmentation.sliding import segment_by_windows
from medseg.segmentation.stacks import slice_notices
from medseg.segmentation.statistics import measure_segments
from medseg.segmentation.windows import importance_map
from medseg.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from medseg.models.package import ModelPackage
    from medseg.segmentation.windows import Plan
    from medseg.volumes import Geometry

logger = logging.getLogger(__name__)

_NETWORK_PART = (0.04, 0.92)
_FIRST_STAGE_PART = (0.02, 0.35)
"""Of the progress of a cascade, the part of its first stage, which works on a coarser grid (our choice)."""


_SHARE_OF_GPU = 0.3
"""Of a GPU's free memory, the part that blended scores may take; the network needs the rest (our choice)."""


def segment(
    volumes: Sequence[Volume],
    package: ModelPackage,
    options: SegmentOptions | None = None,
    *,
    network: nn.Module | None = None,
    progress: Progress = NO_PROGRESS,
) -> SegmentationResult:
    """Segment ``volumes`` with the model ``package``.

    Parameters
    ----------
    volumes
        One volume for each input of the model, in its order. Others than the first are resampled onto the first's grid
        when theirs differs. Not changed.
    package
        The model.
    options
        See :class:`SegmentOptions`.
    network
        The package's network when it is loaded already (``medseg.models.load_network``).
    progress
        Told after every window, asked between the layers of the network. A cancelled run leaves nothing behind: its
        memory is free when :class:`Cancelled` arrives.

    Returns
    -------
    SegmentationResult
        Its labelmap has exactly the geometry of the first volume, whatever its orientation, also oblique,
        left-handed or sheared.

    Raises
    ------
    InputError
        When the number of volumes is wrong, or one cannot be segmented (empty, constant, not finite, too few slices).
    ModelError
        When the package cannot be loaded or its network gives nonsense.
    DeviceError, DeviceMemoryError
        When the device fails or the memory is too small also for the smallest plan.
    Cancelled
        When the user asked to stop.
    """
    stopped: Cancelled | DeviceMemoryError
    try:
        return _Segmentation(list(volumes), package, options or SegmentOptions(), progress).run(network)
    except Cancelled as error:
        stopped = Cancelled(error.message, advice=error.advice)
    except MemoryError:
        stopped = _too_large()
    # Raised here and not above: the first exception's traceback holds the frames and with them the image and scores.
    release_memory()
    raise stopped


class _Segmentation:
    """One run: the state that its steps share."""

    def __init__(
        self, volumes: list[Volume], package: ModelPackage, options: SegmentOptions, progress: Progress
    ) -> None:
        self.volumes = volumes
        self.package = package
        self.options = options
        self.progress = progress
        self.labels = package.labels
        self.preparer = preparer_of(package)
        self.notices: list[str] = []
        self.timings: dict[str, float] = {}

    def run(self, network: nn.Module | None) -> SegmentationResult:
        self.progress.update(0.0, "Checking the images")
        with _timed(self.timings, "imports"):
            _import_what_is_heavy(self.package, needed=network is None)
        begun = time.perf_counter()
        self.notices += check_inputs(self.volumes, self.package, progress=self.progress)
        choice = choose_device(self.options.device)
        if choice.fell_back:
            self.notices.append(choice.reason)
        source = self.volumes[0].geometry
        first_stage = self._first_stage()
        oriented = self.preparer.whole(source)
        shown = self.preparer.shown(self.volumes)
        plan = self._plan(source, shown, choice.device)
        with _timed(self.timings, "load"):
            self.progress.update(0.01, "Loading the model")
            network = network or load_network(self.package)
        with _timed(self.timings, "prepare"):
            self.progress.update(0.02, "Preparing the images")
            network_grid = self.preparer.grid(shown)
            image = self.preparer.image(self.volumes, shown, first_stage, self.progress)
            del first_stage
        self.notices += slice_notices(self.package, network_grid)
        if hasattr(network, "slice_spacing"):
            # TSFMUNet and its kind: the distance of the slices in mm, which such a network may use as their position.
            network.slice_spacing = network_grid.spacing[int(network.slice_axis)]
        predictor = Predictor(
            network, choice.device, batch_size=self.options.batch_size, progress=self.progress.part(*_NETWORK_PART)
        )
        labels = self._labels(image, (network_grid, shown, oriented), plan, predictor)
        del image
        with _timed(self.timings, "postprocess"):
            self._clean(labels, oriented)
            labelmap = self._on_source_grid(labels, oriented, source)
            if not labels.any():
                self.notices.append(
                    "The model found none of its structures: check that the volume shows them and is of the right"
                    " modality."
                )
            del labels
        statistics = []
        if self.options.statistics:
            with _timed(self.timings, "statistics"):
                self.progress.update(0.97, "Measuring the segments")
                statistics = measure_segments(labelmap, self.volumes[0], self.labels, progress=self.progress)
        self.timings["other"] = time.perf_counter() - begun - self.timings["network"]
        self.progress.update(1.0, "Done")
        return SegmentationResult(
            labelmap=labelmap,
            labels=self.labels,
            statistics=statistics,
            notices=self.notices,
            timings=self.timings,
            device=str(predictor.device),
            model={
                "name": self.package.name,
                "version": self.package.version,
                "weights_sha256": self.package.weights_sha256 or self._digest(),
            },
        )

    def _first_stage(self) -> Volume | None:
        """Return the labels of the model's first stage on the first volume's grid, when it has one."""
        stage = self.package.first_stage
        if stage is None:
            return None
        options = dataclasses.replace(self.options, statistics=False)
        found = _Segmentation(self.volumes, stage, options, self.progress.part(*_FIRST_STAGE_PART)).run(None)
        self.progress = self.progress.part(_FIRST_STAGE_PART[1], 1.0)
        self.notices += [notice for notice in found.notices if notice not in self.notices]
        for name in ("network", "load", "prepare", "labels"):
            self.timings[f"first stage: {name}"] = found.timings.get(name, 0.0)
        return found.labelmap

    def _plan(self, source: Geometry, shown: Geometry, device: str) -> Plan:
        free = available_memory("cpu")
        plan = plan_shown(shown, self.package, overlap=self.options.overlap, limit_bytes=score_limit(free))
        needed = memory_of(plan, source, self.package, device)
        if needed > free:
            raise DeviceMemoryError(
                f"This run needs about {_gigabytes(needed)} of memory and {_gigabytes(free)} are free.",
                advice="Close other programs, crop the volume to the region of interest, or use a machine with more"
                " memory.",
            )
        if plan.windows > plan.distinct_windows:
            extra = 100 * (plan.windows / plan.distinct_windows - 1)
            self.notices.append(
                f"To save memory the volume is segmented in {len(plan.bands)} parts, which takes about"
                f" {extra:.0f} % longer and changes nothing in the result."
            )
        logger.info("Plan: %s, about %s", plan.describe(), _gigabytes(needed))
        return plan

    def _labels(
        self, image: torch.Tensor, grids: tuple[Geometry, Geometry, Geometry], plan: Plan, predictor: Predictor
    ) -> np.ndarray:
        """Run the network; return the labels (k, j, i) on the last of ``grids`` (of the network, shown, of the image).

        What the network was not shown is background.
        """
        network_grid, shown, oriented = grids
        began = time.perf_counter()
        with considerate_threads():
            if self.package.instances is None:
                values = self.package.labels.values
                labels = np.zeros(oriented.shape, np.uint8 if max(values) <= 255 else np.uint16)
                segment_by_windows(
                    image,
                    predictor,
                    plan,
                    weights=importance_map(plan.window, self.package.window.blend),
                    sampling=self.preparer.sampling(network_grid, shown),
                    labels=labels[box_within(oriented, shown)].transpose(2, 1, 0),
                    progress=self.progress.part(*_NETWORK_PART),
                    store=_place_of_scores(plan, predictor.device),
                    regions=self.package.regions,
                )
                self._name_classes(labels)
            else:
                labels = self._separated(image, grids, predictor)
        self.notices += predictor.notices
        self.timings["network"] = predictor.seconds
        self.timings["labels"] = time.perf_counter() - began - predictor.seconds
        return labels

    def _separated(
        self, image: torch.Tensor, grids: tuple[Geometry, Geometry, Geometry], predictor: Predictor
    ) -> np.ndarray:
        """Do what :meth:`_labels` does with a model that separates instances; they get labels of their own."""
        network_grid, shown, oriented = grids
        found = segment_instances(
            image,
            predictor,
            self.package,
            network_grid,
            overlap=self.options.overlap,
            small_objects=self.options.postprocess,
            progress=self.progress.part(*_NETWORK_PART),
        )
        self.labels = found.table
        self.notices += found.notices
        labels = np.zeros(oriented.shape, found.labels.dtype)
        nearest_on(found.labels, network_grid, shown, labels[box_within(oriented, shown)])
        return labels

    def _name_classes(self, labels: np.ndarray) -> None:
        """Turn the network's classes into the values of the label table; classes without a name are background."""
        if self.package.regions:
            return
        values = self.package.labels.values
        count = self.package.output_channels
        table = np.zeros(max(count, 2), labels.dtype)
        if count == 1:
            table[1] = values[0]
        else:
            known = [value for value in values if value < count]
            table[known] = known
        if not np.array_equal(table, np.arange(len(table))):
            for plane in labels:
                plane[:] = table[plane]

    def _digest(self) -> str:
        try:
            return self.package.weights_digest()
        except OSError:
            # A network that was handed over may come from files that are gone.
            return ""

    def _clean(self, labels: np.ndarray, oriented: Geometry) -> None:
        steps = self.package.postprocessing
        self.progress.update(0.92, "Cleaning the segments")
        if not self.options.postprocess:
            return
        separated = self.package.instances.values if self.package.instances else ()
        clean_labels(
            labels,
            [value for value in self.package.labels.values if value not in separated],
            largest_component=steps.largest_component,
            fill_holes=steps.fill_holes,
            minimum_voxels=steps.minimum_volume_ml * 1000.0 / oriented.voxel_volume_mm3,
            progress=self.progress.part(0.92, 0.96),
        )

    def _on_source_grid(self, labels: np.ndarray, oriented: Geometry, source: Geometry) -> Volume:
        labelmap = Volume(labels, oriented)
        if source.is_sheared:
            labelmap = labelmap.resample(source, interpolation="nearest", fill=0.0).astype(labels.dtype)
        else:
            labelmap = labelmap.reorient(source.orientation)
        # Equal up to the last bits of the matrix: the caller gets the geometry that he gave.
        return Volume(np.ascontiguousarray(labelmap.array), source, name=f"{self.volumes[0].name} segmentation".strip())


def _import_what_is_heavy(package: ModelPackage, *, needed: bool) -> None:
    """Import before the clock runs what later steps import, so that the timings say what a warm worker takes."""
    importlib.import_module("SimpleITK")
    module = package.network_target.rpartition(".")[0]
    if needed and module in ALLOWED_MODULES:
        importlib.import_module(module)


def _place_of_scores(plan: Plan, device: torch.device) -> torch.device:
    if device.type == "cuda" and plan.score_bytes < _SHARE_OF_GPU * available_memory(str(device)):
        return device
    return torch.device("cpu")


class _timed:  # noqa: N801 - reads as a statement: with _timed(...)
    """Add the seconds of a ``with`` block to a dictionary."""

    def __init__(self, timings: dict[str, float], name: str) -> None:
        self._timings, self._name = timings, name

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timings[self._name] = time.perf_counter() - self._begun


def _gigabytes(size: int) -> str:
    return f"{math.ceil(size / 1e8) / 10:.1f} GB"


def _too_large() -> DeviceMemoryError:
    return DeviceMemoryError(
        "There is too little memory for this volume and model.",
        advice="Close other programs, crop the volume, or use a machine with more memory.",
    )
