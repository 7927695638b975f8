"""Codes of structures by their common names, for labels of which nothing is given but a name."""

from __future__ import annotations

import re

from medseg.labels.codes import (
    ALTERED_STRUCTURE,
    ANATOMICAL_STRUCTURE,
    BODY_SUBSTANCE,
    LEFT,
    RIGHT,
    TISSUE,
    Code,
)
from medseg.labels.table import Label, distinct_color

_STRUCTURES = {
    "adrenal gland": "23451007",
    "aorta": "15825003",
    "bladder": "89837001",
    "brain": "12738006",
    "brainstem": "15926001",
    "clavicle": "51299004",
    "colon": "71854001",
    "duodenum": "38848004",
    "esophagus": "32849002",
    "femur": "71341001",
    "gallbladder": "28231008",
    "heart": "80891009",
    "hippocampus": "5366008",
    "humerus": "85050009",
    "inferior vena cava": "64131007",
    "kidney": "64033007",
    "larynx": "4596009",
    "left atrium": "82471001",
    "left ventricle": "87878005",
    "liver": "10200004",
    "lung": "39607008",
    "mandible": "91609006",
    "myocardium": "74281007",
    "pancreas": "15776009",
    "parotid gland": "45289007",
    "prostate": "41216001",
    "rib": "113197003",
    "right atrium": "73829009",
    "right ventricle": "53085002",
    "scapula": "79601000",
    "small bowel": "30315005",
    "spinal cord": "2748008",
    "spleen": "78961009",
    "sternum": "56873002",
    "stomach": "69695003",
    "thyroid gland": "69748006",
    "trachea": "44567001",
    "vertebra": "51282000",
}
"""SNOMED CT codes of anatomical structures, as DICOM's context groups have them."""

_OTHERS = {
    "cyst": (ALTERED_STRUCTURE, Code("SCT", "367643001", "Cyst")),
    "edema": (ALTERED_STRUCTURE, Code("SCT", "79654002", "Edema")),
    "necrosis": (ALTERED_STRUCTURE, Code("SCT", "6574001", "Necrosis")),
    "mass": (ALTERED_STRUCTURE, Code("SCT", "4147007", "Mass")),
    "blood": (BODY_SUBSTANCE, Code("SCT", "87612001", "Blood")),
}
_SAME = {
    "cord": "spinal cord",
    "brain stem": "brainstem",
    "oesophagus": "esophagus",
    "urinary bladder": "bladder",
    "gall bladder": "gallbladder",
    "small intestine": "small bowel",
    "large intestine": "colon",
    "thyroid": "thyroid gland",
    "parotid": "parotid gland",
    "adrenal": "adrenal gland",
    "ivc": "inferior vena cava",
    "postcava": "inferior vena cava",
    "vertebrae": "vertebra",
    "oedema": "edema",
    "tumor": "mass",
    "tumour": "mass",
    "lesion": "mass",
    "la": "left atrium",
    "lv": "left ventricle",
    "ra": "right atrium",
    "rv": "right ventricle",
    "myo": "myocardium",
}
_SIDES = {"left": LEFT, "right": RIGHT}


def named_label(value: int, name: str) -> Label:
    """Return a label of ``value`` called ``name``, with the codes of the structure when the name is a common one.

    Upper and lower case, hyphens and underscores, "left" and "right" before or behind, and the plural make no
    difference. Otherwise the codes are Slicer's default, "Tissue". The colour is one of a series of distinct ones.

    Raises
    ------
    InputError
        When the value or the name cannot be those of a label.
    """
    category, kind, side = known_codes(name) or (TISSUE, TISSUE, None)
    return Label(value, name, distinct_color(value), category, kind, side)


def known_codes(name: str) -> tuple[Code, Code, Code | None] | None:
    """Return category, type and side of the structure called ``name``, or ``None`` when it is not known."""
    words = re.sub(r"[\s_\-]+", " ", name).strip().lower().split()
    for sides in (0, 1):
        kept = [word for word in words if not (sides and word in _SIDES)]
        found = _found(" ".join(kept))
        if found is not None:
            named = [_SIDES[word] for word in words if word in _SIDES] if sides else []
            return (*found, named[0] if len(named) == 1 else None)
    return None


def _found(name: str) -> tuple[Code, Code] | None:
    for form in (name, name.removesuffix("s")):
        term = _SAME.get(form, form)
        if term in _OTHERS:
            return _OTHERS[term]
        if term in _STRUCTURES:
            return ANATOMICAL_STRUCTURE, Code("SCT", _STRUCTURES[term], term.capitalize())
    return None
