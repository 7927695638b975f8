"""Thin segmentations from labels that were drawn on thick slices of the same case.

Importing this package brings numpy only; torch comes when :func:`transfer` trains a network.
"""

from medseg.training.thin_thick.drawing import SliceAgreement, measure_agreement
from medseg.training.thin_thick.per_case import TransferOptions, TransferResult, transfer, write_agreement_csv
from medseg.training.thin_thick.thick import Grouping, SliceAxis, find_grouping, thick_copy, thick_geometry

__all__ = [
    "Grouping",
    "SliceAgreement",
    "SliceAxis",
    "TransferOptions",
    "TransferResult",
    "find_grouping",
    "measure_agreement",
    "thick_copy",
    "thick_geometry",
    "transfer",
    "write_agreement_csv",
]
