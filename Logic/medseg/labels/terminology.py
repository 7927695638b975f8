"""A terminology context of 3D Slicer (``.term.json``) made from label tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medseg.files import atomic_path
from medseg.labels.codes import MEDSEG_CONTEXT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from medseg.labels.codes import Code
    from medseg.labels.table import Label

_SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#"


def terminology_context(labels: Iterable[Label], name: str = MEDSEG_CONTEXT) -> dict[str, Any]:
    """Return the context as Slicer's terminologies module reads it: categories, their types, and type modifiers.

    A type that occurs with several modifiers (left and right) is listed once. A category offers anatomic regions when
    one of its labels has a region.
    """
    categories: dict[Code, dict[str, Any]] = {}
    types: dict[tuple[Code, Code], dict[str, Any]] = {}
    for label in labels:
        category = categories.setdefault(label.category, {**_coded(label.category), "showAnatomy": False, "Type": []})
        category["showAnatomy"] = category["showAnatomy"] or label.region is not None
        if (label.category, label.type) not in types:
            types[label.category, label.type] = _coded(label.type)
            category["Type"].append(types[label.category, label.type])
        kind = types[label.category, label.type]
        display = {"recommendedDisplayRGBValue": list(label.color), "3dSlicerLabel": label.name}
        if label.type_modifier is None:
            kind.update(display)
        else:
            modifiers = kind.setdefault("Modifier", [])
            coded = _coded(label.type_modifier)
            if not any(coded.items() <= modifier.items() for modifier in modifiers):
                modifiers.append({**coded, **display})
    return {
        "SegmentationCategoryTypeContextName": name,
        "@schema": _SCHEMA,
        "SegmentationCodes": {"Category": list(categories.values())},
    }


def write_terminology(labels: Iterable[Label], path: str | Path, name: str = MEDSEG_CONTEXT) -> None:
    """Write :func:`terminology_context` as JSON; 3D Slicer loads files that end in ``.term.json``.

    Raises
    ------
    WriteError
        When the file cannot be written; what stood there before is untouched.
    """
    text = json.dumps(terminology_context(labels, name), indent=2, ensure_ascii=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _coded(code: Code) -> dict[str, Any]:
    return {"CodingSchemeDesignator": code.scheme, "CodeValue": code.value, "CodeMeaning": code.meaning}
