"""What the verb *Segment* is asked and what it answers; importable without torch."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.labels import LabelTable
    from medseg.volumes import Volume


@dataclasses.dataclass(frozen=True)
class SegmentOptions:
    """How to segment.

    Attributes
    ----------
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    postprocess
        Run the clean-up steps that the model package asks for.
    statistics
        Measure every segment in the first input volume.
    overlap
        Share of a window that the next one covers again, 0 to 0.9; ``None``: as the package says. More is slower and
        a little smoother.
    batch_size
        Windows at once; ``None``: 1 on a CPU, a few on a GPU.

    Raises
    ------
    InputError
        When a value is outside its range.
    """

    device: str = "auto"
    postprocess: bool = True
    statistics: bool = True
    overlap: float | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.overlap is not None and not (math.isfinite(self.overlap) and 0.0 <= self.overlap <= 0.9):
            raise InputError(
                f"The overlap of windows is {self.overlap}.", advice="Give a share from 0 to 0.9, such as 0.5."
            )
        if self.batch_size is not None and not 1 <= self.batch_size <= 64:
            raise InputError(f"The batch size is {self.batch_size}.", advice="Give a whole number from 1 to 64.")


@dataclasses.dataclass(frozen=True)
class SegmentStatistics:
    """Measurements of one segment in the volume that was segmented.

    Intensities are in that volume's unit (HU for CT) and NaN for an empty segment; ``std`` is the sample standard
    deviation (n - 1, as in Slicer's Segment Statistics; 0 for one voxel).
    """

    value: int
    name: str
    voxels: int
    volume_ml: float
    mean: float
    std: float
    minimum: float
    maximum: float


@dataclasses.dataclass
class SegmentationResult:
    """A finished segmentation.

    Attributes
    ----------
    labelmap
        uint8 (uint16 when a label is above 255) on the grid of the first input volume.
    labels
        Names, colours and codes of the values in ``labelmap``.
    statistics
        One entry a label, in the order of ``labels``; empty when not asked for.
    notices
        What the user should know, whole sentences: a fallback, a resampled input.
    timings
        Seconds: ``imports``, ``load`` (weights), ``prepare`` (image onto the network's grid), ``network``, ``labels``
        (blending and interpolation), ``postprocess``, ``statistics``, and ``other`` (all but ``imports`` and
        ``network``); ``read`` is added by whoever reads the file.
    device
        Where the network ran in the end: ``"cpu"``, ``"cuda:0"``.
    model
        ``name``, ``version`` and ``weights_sha256`` of the package, so that the result can be traced.
    """

    labelmap: Volume
    labels: LabelTable
    statistics: list[SegmentStatistics] = dataclasses.field(default_factory=list)
    notices: list[str] = dataclasses.field(default_factory=list)
    timings: dict[str, float] = dataclasses.field(default_factory=dict)
    device: str = "cpu"
    model: dict[str, str] = dataclasses.field(default_factory=dict)
