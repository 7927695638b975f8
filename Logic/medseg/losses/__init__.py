"""Loss functions that PyTorch and MONAI do not have: tensors in, a tensor out."""

from medseg.losses.deep_supervision import deeply_supervised
from medseg.losses.discriminative import Margins, discriminative_loss, discriminative_terms
from medseg.losses.missing_label_dice import marginal_cross_entropy, missing_label_dice
from medseg.losses.thin_thick import FeatureTap, SliceProjection, ThinThickLoss
from medseg.losses.tversky import class_cross_entropy, tversky_index, tversky_loss

__all__ = [
    "FeatureTap",
    "Margins",
    "SliceProjection",
    "ThinThickLoss",
    "class_cross_entropy",
    "deeply_supervised",
    "discriminative_loss",
    "discriminative_terms",
    "marginal_cross_entropy",
    "missing_label_dice",
    "tversky_index",
    "tversky_loss",
]
