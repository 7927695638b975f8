"""From an image to labels, slab by slab: full-resolution class scores never exist.

Windows are run in the order of a :class:`~medseg.segmentation.windows.Plan`. Their scores (the network's raw outputs,
as MONAI blends them: logits, before any softmax) are added up with their weights in a ring of slices. As soon as no
later window touches a slice, it is divided by its weights, interpolated linearly onto the output grid (first between
two slices, then within the plane, one class at a time) and reduced to the class with the highest score. What is held
at once is therefore one slab of scores, whatever the length of the volume. Interpolating scores and not labels keeps
the boundaries smooth where the network's grid is coarser than the image.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.errors import DeviceMemoryError, ModelError
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.segmentation.grids import AxisSampling
    from medseg.segmentation.predictor import Predictor
    from medseg.segmentation.windows import Band, Plan


def segment_by_windows(
    image: torch.Tensor,
    predictor: Predictor,
    plan: Plan,
    *,
    weights: np.ndarray,
    sampling: tuple[AxisSampling, AxisSampling, AxisSampling],
    labels: np.ndarray,
    progress: Progress = NO_PROGRESS,
    store: torch.device | str = "cpu",
    regions: Sequence[int] = (),
) -> None:
    """Write the class of every voxel of the output grid into ``labels``.

    Parameters
    ----------
    image
        The prepared image on the network grid, float32, (C, I, J, K), on the CPU.
    predictor
        The network.
    plan
        Windows and their order, for this size of image.
    weights
        Weight of each voxel of a window, (i, j, k).
    sampling
        How the output grid is interpolated from the network grid, axes i, j, k.
    labels
        Integers, axes (i, j, k) of the output grid; may be a view. They get the index of the highest score, the lowest
        index on a tie, unless there are ``regions``.
    progress
        Told after every batch of windows.
    store
        Device of the blended scores.
    regions
        For each channel in turn the value that is written where its score is above 0 (a probability above one half);
        what no channel writes is 0. A network with one channel writes 1 when none are given.

    Raises
    ------
    ModelError
        When the number of channels changes, or is more than ``plan.classes``.
    DeviceMemoryError
        When the scores do not fit into memory.
    Cancelled, DeviceError
        As :meth:`Predictor.scores`.
    """
    run = _Run(
        image,
        predictor,
        plan,
        torch.from_numpy(weights),
        sampling,
        labels,
        progress,
        torch.device(store),
        tuple(regions),
    )
    with torch.inference_mode():
        for band in plan.bands:
            run.do(band)


@dataclasses.dataclass
class _Run:
    image: torch.Tensor
    predictor: Predictor
    plan: Plan
    weights: torch.Tensor
    sampling: tuple[AxisSampling, AxisSampling, AxisSampling]
    labels: np.ndarray
    progress: Progress
    store: torch.device
    regions: tuple[int, ...]
    done: int = 0

    def do(self, band: Band) -> None:
        """Run the windows of one band and write its labels."""
        plan = self.plan
        order = (plan.stream_axis, plan.band_axis, plan.rest_axis)
        through = plan.starts[plan.stream_axis]
        slab: _Slab | None = None
        labels = self.labels.transpose(order)[:, band.output[0] : band.output[1]]
        for here, start in enumerate(through):
            corners = [
                _corner(order, (start, across, rest)) for across in band.starts for rest in plan.starts[plan.rest_axis]
            ]
            while corners:
                # The predictor lowers its batch size when a device is full.
                batch, corners = corners[: self.predictor.batch_size], corners[self.predictor.batch_size :]
                windows = [cut_window(self.image, corner, plan.window) for corner in batch]
                for corner, scores in zip(batch, self.predictor.scores(windows), strict=True):
                    if slab is None:
                        slab = self._new_slab(band, scores, labels)
                    slab.add(scores, [corner[axis] for axis in order])
                    # Not to be held while the network makes the next ones.
                    del scores
                self.done += len(batch)
                self.progress.update(self.done / plan.windows, f"Window {self.done} of {plan.windows}")
            last = here + 1 == len(through)
            if slab is not None:
                slab.finish(plan.size[plan.stream_axis] if last else through[here + 1], self.progress)

    def _new_slab(self, band: Band, scores: torch.Tensor, labels: np.ndarray) -> _Slab:
        classes = int(scores.shape[0])
        regions = self.regions or ((1,) if (classes, self.plan.classes) == (1, 2) else ())
        if classes != (len(regions) or self.plan.classes):
            raise ModelError(
                f"The network gives scores for {classes} classes, background included, but the model's labels make"
                f" {self.plan.classes}.",
                advice="The model's labels.csv does not belong to its weights; install the model again.",
            )
        # A network that has left a full GPU for the CPU must not meet its scores there again.
        device = self.store if self.predictor.device.type != "cpu" else torch.device("cpu")
        return _Slab(
            self.plan,
            band,
            classes=classes,
            weights=self.weights,
            sampling=self.sampling,
            labels=labels,
            device=device,
            regions=regions,
        )


def cut_window(image: torch.Tensor, corner: tuple[int, int, int], size: tuple[int, int, int]) -> torch.Tensor:
    """Return the window (C, i, j, k) of ``image`` (C, I, J, K) that begins at ``corner``, zeros outside the image."""
    inside = [
        slice(max(start, 0), min(start + width, length))
        for start, width, length in zip(corner, size, image.shape[1:], strict=True)
    ]
    there = (slice(None), *inside)
    part = image[there]
    if part.shape[1:] == torch.Size(size):
        return part.contiguous()
    window = image.new_zeros((image.shape[0], *size))
    place = [slice(cut.start - start, cut.stop - start) for cut, start in zip(inside, corner, strict=True)]
    here = (slice(None), *place)
    window[here] = part
    return window


def _corner(order: tuple[int, int, int], starts: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return window starts given as (stream, band, rest) in the order (i, j, k)."""
    corner = dict(zip(order, starts, strict=True))
    return corner[0], corner[1], corner[2]


class _Slab:
    """Blended scores of the slices that are not labels yet: (classes, ring, rows, columns), and their weights.

    Axes: *stream* (the ring), *band* (rows), *rest* (columns). Slice ``n`` of the network grid lies at ``n % ring``.
    """

    def __init__(
        self,
        plan: Plan,
        band: Band,
        *,
        classes: int,
        weights: torch.Tensor,
        sampling: tuple[AxisSampling, AxisSampling, AxisSampling],
        labels: np.ndarray,
        device: torch.device,
        regions: tuple[int, ...],
    ) -> None:
        order = (plan.stream_axis, plan.band_axis, plan.rest_axis)
        rows, columns = band.network[1] - band.network[0], plan.size[plan.rest_axis]
        self._ring = plan.ring_length
        self._order = order
        self._low = (0, band.network[0], 0)
        self._high = (plan.size[plan.stream_axis], band.network[1], columns)
        self._weights = weights.permute(order).to(device)
        self._half = plan.half_precision
        kind = torch.float16 if self._half else torch.float32
        self._scores = _zeros((classes, self._ring, rows, columns), device, kind)
        self._sums = _zeros((self._ring, rows, columns), device, kind)
        self._through = sampling[plan.stream_axis]
        down, across = sampling[plan.band_axis], sampling[plan.rest_axis]
        self._down = _PlaneSampling(down, device, band.output, band.network)
        self._across = _PlaneSampling(across, device, (0, across.output_size), (0, columns))
        self._labels = labels
        self._regions = regions
        self._finished = 0
        self._next_output = 0
        self._released = 0

    def add(self, scores: torch.Tensor, start: list[int]) -> None:
        """Add the weighted scores (classes, i, j, k) of the window that begins at ``start`` (stream, band, rest)."""
        scores = scores.permute(0, *(axis + 1 for axis in self._order)).to(self._scores.device)
        begin = [max(s, low) for s, low in zip(start, self._low, strict=True)]
        end = [min(s + width, high) for s, width, high in zip(start, self._weights.shape, self._high, strict=True)]
        window = [slice(b - s, e - s) for b, e, s in zip(begin, end, start, strict=True)]
        plane = [slice(b - low, e - low) for b, e, low in zip(begin[1:], end[1:], self._low[1:], strict=True)]
        for first, stop in self._pieces(begin[0], end[0]):
            slot = first % self._ring
            there = (slice(None), slice(slot, slot + stop - first), *plane)
            here = (slice(None), slice(first - start[0], stop - start[0]), *window[1:])
            weights = self._weights[here[1:]]
            if self._half:
                # The product is rounded to 32 bits before it is added, and the sum to 16. One class at a time: three
                # times as fast, and without a second window of scores.
                for held, added in zip(self._scores[there], scores[here], strict=True):
                    held.add_(added * weights)
            else:
                self._scores[there].addcmul_(scores[here], weights)
            self._sums[there[1:]] += weights

    def finish(self, stop: int, progress: Progress) -> None:
        """Turn into labels what depends only on slices before ``stop``, which no later window touches."""
        for index in range(self._finished, stop):
            self._scores[:, index % self._ring] /= self._sums[index % self._ring]
            if self._half and not torch.isfinite(self._scores[:, index % self._ring]).all():
                raise ModelError(
                    "The scores of the network are too large for the half precision in which nnU-Net adds them up.",
                    advice="Check that the volume is of the modality that the model asks for.",
                )
        self._finished = stop
        through = self._through
        while self._next_output < through.output_size and through.upper[self._next_output] < stop:
            progress.check()
            self._labels[self._next_output] = self._label_plane(self._next_output)
            self._next_output += 1
        rest = through.lower[self._next_output] if self._next_output < through.output_size else stop
        for index in range(self._released, min(int(rest), stop)):
            self._scores[:, index % self._ring] = 0
            self._sums[index % self._ring] = 0
            self._released = index + 1

    def _pieces(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Split a range of slices where the ring begins anew."""
        border = (begin // self._ring + 1) * self._ring
        return [(begin, end)] if end <= border else [(begin, border), (border, end)]

    def _label_plane(self, output: int) -> np.ndarray:
        first = self._plane(0, output)
        largest = max(self._regions) if self._regions else len(self._scores) - 1
        labels = torch.zeros(first.shape, dtype=torch.uint8 if largest <= 255 else torch.int32, device=first.device)
        if self._regions:
            for channel, value in enumerate(self._regions):
                labels.masked_fill_(self._plane(channel, output) > 0, value)
            return labels.cpu().numpy()
        best = first.clone()
        for channel in range(1, len(self._scores)):
            plane = self._plane(channel, output)
            labels.masked_fill_(plane > best, channel)
            torch.maximum(best, plane, out=best)
        return labels.cpu().numpy()

    def _plane(self, channel: int, output: int) -> torch.Tensor:
        low, high = int(self._through.lower[output]), int(self._through.upper[output])
        # No copy of scores that are 32-bit numbers already.
        plane = self._scores[channel, low % self._ring].float()
        if high != low:
            above = self._scores[channel, high % self._ring].float()
            plane = torch.lerp(plane, above, float(self._through.weight[output]))
        plane = self._down.apply(self._across.apply(plane, 1), 0)
        # nnU-Net rounds interpolated scores too, and so decides by the order of classes where they are nearly equal.
        return plane.half().float() if self._half else plane


class _PlaneSampling:
    """An :class:`AxisSampling` as tensors, for a range of its output."""

    def __init__(
        self, sampling: AxisSampling, device: torch.device, output: tuple[int, int], held: tuple[int, int]
    ) -> None:
        lower, upper = (end[output[0] : output[1]] - held[0] for end in (sampling.lower, sampling.upper))
        weight = sampling.weight[output[0] : output[1]]
        self._lower, self._upper, self._weight = (torch.from_numpy(part).to(device) for part in (lower, upper, weight))
        self._selects = not weight.any()
        self._keeps = self._selects and np.array_equal(lower, np.arange(held[1] - held[0]))

    def apply(self, plane: torch.Tensor, axis: int) -> torch.Tensor:
        """Interpolate a plane (rows, columns) along one of its axes."""
        if self._keeps:
            return plane
        low = plane.index_select(axis, self._lower)
        if self._selects:
            return low
        weight = self._weight if axis == 1 else self._weight[:, None]
        return low.lerp_(plane.index_select(axis, self._upper), weight)


def _zeros(shape: tuple[int, ...], device: torch.device, kind: torch.dtype) -> torch.Tensor:
    try:
        return torch.zeros(shape, device=device, dtype=kind)
    except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
        raise DeviceMemoryError(
            f"There is too little memory for the scores of one slab ({np.prod(shape) * kind.itemsize / 2**20:.0f} MB).",
            advice="Close other programs, or choose a model with fewer segments or a smaller window.",
        ) from error
