"""The verb *Segment*: volumes and a model package in, a labelmap with statistics out.

Importing this costs nothing; torch comes with the first call of :func:`segment`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from medseg.progress import NO_PROGRESS, Progress
from medseg.segmentation.estimate import Estimate, estimate
from medseg.segmentation.results import SegmentationResult, SegmentOptions, SegmentStatistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from medseg.models.package import ModelPackage
    from medseg.volumes import Volume

__all__ = ["Estimate", "SegmentOptions", "SegmentStatistics", "SegmentationResult", "estimate", "segment"]


def segment(
    volumes: Sequence[Volume],
    package: ModelPackage,
    options: SegmentOptions | None = None,
    *,
    network: nn.Module | None = None,
    progress: Progress = NO_PROGRESS,
) -> SegmentationResult:
    """Segment ``volumes`` with the model ``package``: see :func:`medseg.segmentation.pipeline.segment`."""
    begun = time.perf_counter()
    from medseg.segmentation import pipeline

    imports = time.perf_counter() - begun
    result = pipeline.segment(volumes, package, options, network=network, progress=progress)
    result.timings["imports"] += imports
    return result
