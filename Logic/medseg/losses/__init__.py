"""Loss functions that PyTorch and MONAI do not have: tensors in, a tensor out."""

from medseg.losses.deep_supervision import deeply_supervised
from medseg.losses.discriminative import Margins, discriminative_loss, discriminative_terms
from medseg.losses.missing_label_dice import marginal_cross_entropy, missing_label_dice

__all__ = [
    "Margins",
    "deeply_supervised",
    "discriminative_loss",
    "discriminative_terms",
    "marginal_cross_entropy",
    "missing_label_dice",
]
