"""Windows of whole slices from the head to the feet: blended classes, and instances that stay one across windows.

Sections 7 to 9 of the digest of "Vision transformers for segmenting organs and tissues in CT scans of arbitrary imaging
ranges" (Melander and Thånell, Lund 2024). The windows lie one after the other along the slices only. Class
probabilities are blended with a Gaussian along the slices; embeddings of different windows have nothing to do with each
other, so each window is clustered by itself and its instances are stitched. Arrays are (slices, rows, columns), slice 0
nearest to the head. Class scores of one window's slices are held at a time, whatever the length of the scan.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.analysis.clustering import cluster_embeddings
from medseg.analysis.stitching import JoiningStitcher, OverwritingStitcher, Stitched, Stitcher
from medseg.errors import ModelError
from medseg.models.intensity import Normalize, ScaleRange
from medseg.progress import NO_PROGRESS, Progress
from medseg.segmentation.stacks import window_of
from medseg.segmentation.windows import importance_map, window_starts

if TYPE_CHECKING:
    from medseg.models.instances import InstanceGroup
    from medseg.models.package import ModelPackage
    from medseg.segmentation.predictor import Predictor

logger = logging.getLogger(__name__)

_AIR_HU = -1000.0
_MOST_CLUSTERS = 10_000
"""Clusters of one group in one window, at most; a trained network leaves some hundred crumbs between its instances."""

_SHARE_OF_NETWORK = 0.8
"""Of a window's share of the progress; the rest is for its clusters (our guess)."""


@dataclass
class WindowResult:
    """What the windows of a scan give.

    Attributes
    ----------
    classes
        The class of each voxel by blended probabilities, uint8 or uint16, (slices, rows, columns) from the head.
    stitched
        The instances of each group that is separated by embeddings, by label value; the same axes.
    windows
        How many windows there were.
    notices
        What the user should know, whole sentences.
    """

    classes: np.ndarray
    stitched: dict[int, Stitched] = field(default_factory=dict)
    windows: int = 0
    notices: list[str] = field(default_factory=list)


def run_windows(
    image: torch.Tensor,
    predictor: Predictor,
    package: ModelPackage,
    *,
    overlap: float | None = None,
    progress: Progress = NO_PROGRESS,
) -> WindowResult:
    """Run the network on the windows of a scan, from the head to the feet.

    Parameters
    ----------
    image
        The prepared image on the network's grid, float32, (C, I, J, K); K along the body in the direction that the
        package's orientation says.
    predictor
        The network: scores before the softmax, and embeddings when a group needs them.
    package
        Must have ``instances``. Of its window, the third size is that of the slices; in the plane a window is the whole
        slice, filled up with air to a multiple of the window's other sizes.
    overlap
        Share of a window that the next one covers again; ``None``: as the package says. The last window is moved up to
        end with the scan; a scan shorter than a window is filled up with air below its feet end.
    progress
        Told after every window.

    Raises
    ------
    ModelError
        When the network gives another number of classes than the package says, or lacks the embeddings.
    DeviceError, DeviceMemoryError, Cancelled
        As :class:`~medseg.segmentation.predictor.Predictor`.
    """
    assert package.instances is not None
    view = _FromHead(image, package)
    groups = [group for group in package.instances.groups if group.method == "embedding"]
    shape = (view.slices, *view.plane)
    stitchers = {group.label: _stitcher(group, shape) for group in groups}
    length = view.window_slices
    starts = window_starts(max(view.slices, length), length, package.window.overlap if overlap is None else overlap)
    blend = _Blend(shape, length, max(package.output_channels, 2), package.window.blend)
    unfinished: set[int] = set()
    with torch.inference_mode():
        for index, start in enumerate(starts):
            text = f"Window {index + 1} of {len(starts)}"
            window = [view.window(start)]
            embeddings: torch.Tensor | None = None
            if groups:
                scores, embeddings = next(predictor.scores_and_embeddings(window))
                embeddings = view.seen(embeddings, start).permute(1, 2, 3, 0)
            else:
                scores = next(predictor.scores(window))
            progress.update((index + _SHARE_OF_NETWORK) / len(starts), text)
            probabilities = _probabilities(view.seen(scores, start), package.output_channels)
            del scores
            blend.add(start, probabilities)
            classes = probabilities.argmax(dim=0).numpy()
            del probabilities
            for group in groups:
                assert embeddings is not None
                mask = classes == group.label
                found = cluster_embeddings(
                    embeddings[torch.from_numpy(mask)].numpy(),
                    delta=group.delta,
                    seed=index,
                    most=_MOST_CLUSTERS,
                    progress=progress,
                )
                if not found.all():
                    unfinished.add(group.label)
                instances = np.zeros(mask.shape, np.int32)
                instances[mask] = found
                stitchers[group.label].add(start, instances)
            progress.update((index + 1) / len(starts), text)
    result = WindowResult(blend.finish(), {label: each.finish() for label, each in stitchers.items()}, len(starts))
    result.notices = _notices(view, result, unfinished, package)
    return result


class _FromHead:
    """The image of the network as slices from the head: where a window lies, and how an output is turned back."""

    def __init__(self, image: torch.Tensor, package: ModelPackage) -> None:
        self._image = image
        self._upwards = package.preprocessing.orientation[2] == "S"
        _, columns, rows, self.slices = image.shape
        self.window_slices = package.window.size_ijk[2]
        self.plane = (rows, columns)
        self._size = window_of(package, (columns, rows, self.slices))[:2]
        self._before = tuple((full - count) // 2 for full, count in zip(self._size, (columns, rows), strict=True))
        self._air = _air(image, package)

    def window(self, start: int) -> torch.Tensor:
        """Return the window (C, I, J, K) that begins at slice ``start`` from the head, in the network's orientation."""
        stop = min(start + self.window_slices, self.slices)
        low, high = (self.slices - stop, self.slices - start) if self._upwards else (start, stop)
        part = self._image[..., low:high]
        size = (*self._size, self.window_slices)
        if part.shape[1:] == size:
            return part.contiguous()
        window = self._air.view(-1, 1, 1, 1).repeat(1, *size)
        i, j = (slice(first, first + count) for first, count in zip(self._before, part.shape[1:3], strict=True))
        # What is missing lies below the feet: at the end of the slices, or at their beginning when they go upwards.
        k = slice(size[2] - (high - low), None) if self._upwards else slice(0, high - low)
        window[:, i, j, k] = part
        return window

    def seen(self, output: torch.Tensor, start: int) -> torch.Tensor:
        """Return an output (channels, I, J, K) of a window as (channels, slices, rows, columns), on the CPU."""
        rows, columns = self.plane
        i, j = (slice(first, first + count) for first, count in zip(self._before, (columns, rows), strict=True))
        turned = output[:, i, j].permute(0, 3, 2, 1)
        turned = turned.flip(1) if self._upwards else turned
        return turned[:, : self.slices - start].cpu()


def _air(image: torch.Tensor, package: ModelPackage) -> torch.Tensor:
    """Return the value of air in the prepared image for each channel: -1000 HU in CT, else the least that occurs."""
    steps = package.preprocessing.intensity
    fixed = all(
        isinstance(step, ScaleRange) or (isinstance(step, Normalize) and None not in (step.mean, step.std))
        for step in steps
    )
    least = image.amin(dim=(1, 2, 3))
    if not fixed:
        return least
    air = float(package.preprocessing.apply_intensity(np.full((1, 1, 1), _AIR_HU, np.float32)).item())
    modalities = [slot.modality.upper() for slot in package.inputs]
    return torch.tensor([air if kind == "CT" else float(low) for kind, low in zip(modalities, least, strict=True)])


def _stitcher(group: InstanceGroup, shape: tuple[int, int, int]) -> Stitcher:
    return OverwritingStitcher(shape) if group.rule == "overwrite" else JoiningStitcher(shape)


def _probabilities(scores: torch.Tensor, channels: int) -> torch.Tensor:
    if scores.shape[0] != channels:
        raise ModelError(
            f"The network gives scores for {scores.shape[0]} classes, background included, but the model's labels make"
            f" {channels}.",
            advice="The model's labels.csv does not belong to its weights; install the model again.",
        )
    if channels == 1:
        inside = scores.sigmoid()
        return torch.cat([1 - inside, inside])
    return scores.softmax(dim=0)


class _Blend:
    """Weighted sums of the probabilities of the slices that no class has been chosen for yet.

    The weight of a slice is the same for all classes, so the sum of the weights need not be divided by.
    """

    def __init__(self, shape: tuple[int, int, int], length: int, classes: int, blend: str) -> None:
        self._classes = np.zeros(shape, np.uint8 if classes <= 256 else np.uint16)
        self._sums = torch.zeros(classes, length, *shape[1:])
        self._weights = torch.from_numpy(importance_map((1, 1, length), blend).reshape(1, -1, 1, 1))
        self._first = 0

    def add(self, start: int, probabilities: torch.Tensor) -> None:
        """Add a window (classes, slices, rows, columns) from slice ``start``; finish the slices before it."""
        self._finish_until(start)
        slices = probabilities.shape[1]
        self._sums[:, :slices].addcmul_(probabilities, self._weights[:, :slices])

    def finish(self) -> np.ndarray:
        """Return the classes of the whole scan."""
        self._finish_until(len(self._classes))
        return self._classes

    def _finish_until(self, stop: int) -> None:
        done = stop - self._first
        if done <= 0:
            return
        best = self._sums[:, :done].argmax(dim=0).numpy()
        self._classes[self._first : stop] = best[: stop - self._first]
        kept = self._sums.shape[1] - done
        if kept > 0:
            self._sums[:, :kept] = self._sums[:, done:].clone()
        self._sums[:, max(kept, 0) :] = 0
        self._first = stop


def _notices(view: _FromHead, result: WindowResult, unfinished: set[int], package: ModelPackage) -> list[str]:
    notices = []
    if view.slices < view.window_slices:
        notices.append(
            f"The scan has {view.slices} slices on the model's grid and the model sees {view.window_slices} at a time:"
            " it was filled up with air below, and the result may be worse than for a longer scan."
        )
    for label, stitched in result.stitched.items():
        if stitched.notes:
            times = "once" if len(stitched.notes) == 1 else f"{len(stitched.notes)} times"
            notices.append(
                f"'{package.labels.by_value(label).name}': where windows meet, two bones may have been taken for one"
                f" ({times}); look there first."
            )
            for note in stitched.notes:
                logger.info(note)
    notices += [
        f"'{package.labels.by_value(label).name}' fell into more than {_MOST_CLUSTERS} pieces in a window; the rest of"
        " it was left out. The model may not suit this volume."
        for label in sorted(unfinished)
    ]
    return notices
