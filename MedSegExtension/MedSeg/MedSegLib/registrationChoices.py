"""What the tab "Register" lets choose from; saved scenes hold the members' names."""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _


class RegistrationMethod(Enum):
    """How two volumes are registered."""

    RIGID = "rigid"
    AFFINE = "affine"
    MODEL = "model"
    LAPIRN = "lapirn"
    FIELD = "field"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {
            "rigid": _("Rigid"),
            "affine": _("Affine"),
            "model": _("Deformable: trained network"),
            "lapirn": _("Deformable: network fitted to this pair"),
            "field": _("Deformable: free displacements"),
        }[self.value]

    @property
    def isDeformable(self) -> bool:
        return self not in (RegistrationMethod.RIGID, RegistrationMethod.AFFINE)


class Effort(Enum):
    """How long a deformable method works on the pair."""

    NONE = "none"
    QUICK = "quick"
    FULL = "full"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {"none": _("Not at all"), "quick": _("Quick"), "full": _("Full")}[self.value]


class Similarity(Enum):
    """What a deformable method compares."""

    AUTOMATIC = "auto"
    LNCC = "lncc"
    MIND = "mind"
    NMI = "nmi"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {
            "auto": _("Automatic"),
            "lncc": _("Local correlation (one contrast)"),
            "mind": _("Self-similarity (any modalities)"),
            "nmi": _("Mutual information (any modalities)"),
        }[self.value]


class Regulariser(Enum):
    """What keeps a deformation smooth."""

    DIFFUSION = "diffusion"
    BENDING = "bending"
    CURVATURE = "curvature"
    IMPLICIT_DIFFUSION = "implicit_diffusion"
    IMPLICIT_CURVATURE = "implicit_curvature"
    IMPLICIT_ELASTIC = "implicit_elastic"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {
            "diffusion": _("Diffusion"),
            "bending": _("Bending energy"),
            "curvature": _("Curvature"),
            "implicit_diffusion": _("Implicit diffusion"),
            "implicit_curvature": _("Implicit curvature"),
            "implicit_elastic": _("Implicit elastic"),
        }[self.value]


class StartAt(Enum):
    """Where the alignment begins; see :data:`medseg.mrml.registration_inputs.Start`."""

    AUTOMATIC = "auto"
    CENTERS = "centre"
    MOMENTS = "moments"
    CURRENT = "current"
    LANDMARKS = "landmarks"
    TRANSFORM = "transform"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {
            "auto": _("Automatic"),
            "centre": _("Centers of the volumes"),
            "moments": _("Centers of brightness"),
            "current": _("As the volumes lie now"),
            "landmarks": _("Landmarks"),
            "transform": _("Initial transform"),
        }[self.value]


class AlignBy(Enum):
    """What the alignment compares."""

    INFORMATION = "mutual_information"
    CORRELATION = "correlation"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {
            "mutual_information": _("Mutual information (any modalities)"),
            "correlation": _("Correlation (one modality)"),
        }[self.value]


class SmoothingKind(Enum):
    """What is small in a smooth field."""

    DIFFUSION = "diffusion"
    CURVATURE = "curvature"
    ELASTIC = "elastic"

    def label(self) -> str:
        """Return the text of the combo box."""
        return {"diffusion": _("Diffusion"), "curvature": _("Curvature"), "elastic": _("Elastic")}[self.value]
