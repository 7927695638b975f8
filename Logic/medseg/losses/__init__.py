"""Loss functions that PyTorch and MONAI do not have: tensors in, a tensor out."""

from medseg.losses.deep_supervision import deeply_supervised
from medseg.losses.discriminative import Margins, discriminative_loss, discriminative_terms
from medseg.losses.implicit_smoothness import ImplicitRegulariser
from medseg.losses.missing_label_dice import marginal_cross_entropy, missing_label_dice
from medseg.losses.normalised_focal import normalised_focal_loss
from medseg.losses.similarity import local_ncc, mind_ssc, mind_ssc_loss, normalised_mutual_information
from medseg.losses.smoothness import bending_energy, curvature_energy, diffusion_energy, folding_energy
from medseg.losses.thin_thick import FeatureTap, SliceProjection, ThinThickLoss
from medseg.losses.tversky import class_cross_entropy, tversky_index, tversky_loss

__all__ = [
    "FeatureTap",
    "ImplicitRegulariser",
    "Margins",
    "SliceProjection",
    "ThinThickLoss",
    "bending_energy",
    "class_cross_entropy",
    "curvature_energy",
    "deeply_supervised",
    "diffusion_energy",
    "discriminative_loss",
    "discriminative_terms",
    "folding_energy",
    "local_ncc",
    "marginal_cross_entropy",
    "mind_ssc",
    "mind_ssc_loss",
    "missing_label_dice",
    "normalised_focal_loss",
    "normalised_mutual_information",
    "tversky_index",
    "tversky_loss",
]
