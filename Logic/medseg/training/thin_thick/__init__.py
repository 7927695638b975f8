"""Thin segmentations from labels that were drawn on thick slices of the same case.

Importing this package costs nothing; torch comes with the first :func:`~medseg.training.thin_thick.transfer.transfer`.
"""

from medseg.training.thin_thick.thick import Grouping, SliceAxis, find_grouping, thick_copy, thick_geometry

__all__ = ["Grouping", "SliceAxis", "find_grouping", "thick_copy", "thick_geometry"]
