"""Bringing two volumes of one anatomy together: transforms, alignment, deformable methods, figures of quality."""

from medseg.registration.alignment import AlignmentOptions, align, from_landmarks
from medseg.registration.files import read_transform, write_transform
from medseg.registration.pipeline import METHODS, RegistrationOptions, RegistrationResult, register
from medseg.registration.quality import LabelFigures, Quality, write_report
from medseg.registration.transform import DisplacementField, SpatialTransform

__all__ = [
    "METHODS",
    "AlignmentOptions",
    "DisplacementField",
    "LabelFigures",
    "Quality",
    "RegistrationOptions",
    "RegistrationResult",
    "SpatialTransform",
    "align",
    "from_landmarks",
    "read_transform",
    "register",
    "write_report",
    "write_transform",
]
