"""Figures of agreement between two label arrays of one grid."""

from medseg.metrics.overlap import ConfusionMetrics, confusion_metrics, dice, dice_per_label
from medseg.metrics.surface import SurfaceAgreement, surface_agreement

__all__ = [
    "ConfusionMetrics",
    "SurfaceAgreement",
    "confusion_metrics",
    "dice",
    "dice_per_label",
    "surface_agreement",
]
