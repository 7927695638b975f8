"""Coded concepts (SNOMED-CT and others) and the way 3D Slicer writes them into a segment."""

from __future__ import annotations

from dataclasses import dataclass

from medseg.errors import InputError

_RESERVED = "~^|"
"""What Slicer's terminology string uses between its parts (``~``, ``^``), and what its colour tables use (``|``)."""


@dataclass(frozen=True)
class Code:
    """A concept of a coding scheme: ``Code("SCT", "82471001", "Left atrium")``.

    Raises
    ------
    InputError
        When a part is empty, has a control character or one of ``~ ^ |``, which Slicer uses as separators.
    """

    scheme: str
    value: str
    meaning: str

    def __post_init__(self) -> None:
        for what, text in (("scheme", self.scheme), ("value", self.value), ("meaning", self.meaning)):
            if not isinstance(text, str) or not text.strip():
                raise InputError(
                    f"A code has no {what}: '{self.scheme}', '{self.value}', '{self.meaning}'.",
                    advice="Give all three: coding scheme (such as SCT), code value and code meaning.",
                )
            if not text.isprintable() or any(mark in text for mark in _RESERVED):
                raise InputError(
                    f"The {what} of a code, {text!r}, has a character that Slicer's terminology cannot hold.",
                    advice="Leave out ~, ^, | and control characters.",
                )

    def __str__(self) -> str:
        return f"{self.meaning} ({self.scheme} {self.value})"


ANATOMICAL_STRUCTURE = Code("SCT", "123037004", "Anatomical Structure")
ALTERED_STRUCTURE = Code("SCT", "49755003", "Morphologically Altered Structure")
TISSUE = Code("SCT", "85756007", "Tissue")
PHYSICAL_OBJECT = Code("SCT", "260787004", "Physical object")
BODY_SUBSTANCE = Code("SCT", "91720002", "Body Substance")
LEFT_ATRIUM = Code("SCT", "82471001", "Left atrium")
LEFT = Code("SCT", "7771000", "Left")
RIGHT = Code("SCT", "24028007", "Right")

MEDSEG_CONTEXT = "Segmentation category and type - MedSeg"
SLICER_GENERAL_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
DICOM_CONTEXT = "Segmentation category and type - DICOM master list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"


def triplet(code: Code | None) -> str:
    """Return ``scheme^value^meaning``, or ``^^`` for no code."""
    return "^^" if code is None else f"{code.scheme}^{code.value}^{code.meaning}"


def parse_triplet(text: str) -> Code | None:
    """Return the code that :func:`triplet` wrote; ``None`` for ``^^``.

    Raises
    ------
    InputError
        When ``text`` does not have three parts, or only some of them are filled.
    """
    parts = text.split("^")
    if len(parts) != 3:
        raise InputError(f"'{text}' is not a code of the form scheme^value^meaning.", advice="Check the terminology.")
    return Code(*parts) if any(parts) else None


@dataclass(frozen=True)
class TerminologyEntry:
    """What the segment tag ``TerminologyEntry`` of 3D Slicer says, taken apart.

    The tag has seven parts between ``~``: terminology context, category, type, type modifier, anatomic (region)
    context, region, region modifier; the codes are written ``scheme^value^meaning``
    (vtkSlicerTerminologiesModuleLogic::SerializeTerminologyEntry).
    """

    context: str
    category: Code
    type: Code
    type_modifier: Code | None = None
    region_context: str = REGION_CONTEXT
    region: Code | None = None
    region_modifier: Code | None = None

    def __post_init__(self) -> None:
        for name in (self.context, self.region_context):
            if not name.isprintable() or any(mark in name for mark in _RESERVED):
                raise InputError(
                    f"The terminology context {name!r} has a character that Slicer cannot hold.",
                    advice="Leave out ~, ^, | and control characters.",
                )

    def __str__(self) -> str:
        return "~".join(
            (
                self.context,
                triplet(self.category),
                triplet(self.type),
                triplet(self.type_modifier),
                self.region_context,
                triplet(self.region),
                triplet(self.region_modifier),
            )
        )


def parse_terminology_entry(text: str) -> TerminologyEntry:
    """Take a segment's tag ``TerminologyEntry`` apart.

    Raises
    ------
    InputError
        When ``text`` does not have seven parts or lacks a category or type.
    """
    parts = text.split("~")
    if len(parts) != 7:
        raise InputError(f"'{text}' is not a terminology entry of seven parts.", advice="Check the segment's tags.")
    category, kind = parse_triplet(parts[1]), parse_triplet(parts[2])
    if category is None or kind is None:
        raise InputError(f"'{text}' names no category or no type.", advice="Check the segment's tags.")
    return TerminologyEntry(
        parts[0],
        category,
        kind,
        parse_triplet(parts[3]),
        parts[4],
        parse_triplet(parts[5]),
        parse_triplet(parts[6]),
    )
