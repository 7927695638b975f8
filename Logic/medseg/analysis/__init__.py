"""The verb *Analyse*: instances in a label map and the agreement of two of them.

Works on arrays with the slice axis first, slice 0 at the head, and on :class:`~medseg.volumes.Volume` label maps of
any orientation. Needs numpy only; SimpleITK is loaded by the functions that look for connected components.
"""

from __future__ import annotations

from medseg.analysis.clustering import cluster_embeddings
from medseg.analysis.instances import InstanceResult, SplitOptions, split_instances
from medseg.analysis.panoptic import Panoptic, compare_instances, panoptic_quality

__all__ = [
    "InstanceResult",
    "Panoptic",
    "SplitOptions",
    "cluster_embeddings",
    "compare_instances",
    "panoptic_quality",
    "split_instances",
]
