"""Training losses, one a file."""

from medseg.losses.deep_supervision import DeepSupervisionLoss

__all__ = ["DeepSupervisionLoss"]
