"""Loss functions that PyTorch and MONAI do not have: tensors in, a tensor out."""

from medseg.losses.deep_supervision import deeply_supervised
from medseg.losses.missing_label_dice import marginal_cross_entropy, missing_label_dice

__all__ = ["deeply_supervised", "marginal_cross_entropy", "missing_label_dice"]
