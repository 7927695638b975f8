"""Names of structures are known in the forms that data sets use."""

from __future__ import annotations

import pytest

from medseg.labels import named_label


@pytest.mark.parametrize(
    ("name", "code", "side"),
    [
        ("Liver", "10200004", None),
        ("kidney_left", "64033007", "Left"),
        ("Right-Kidney", "64033007", "Right"),
        ("lungs", "39607008", None),
        ("left ventricle", "87878005", None),
        ("tumour", "4147007", None),
        ("ribs left", "113197003", "Left"),
    ],
)
def test_a_common_name_has_its_code_and_side(name: str, code: str, side: str | None) -> None:
    label = named_label(3, name)
    assert (label.value, label.name, label.type.value) == (3, name, code)
    assert (label.type_modifier.meaning if label.type_modifier else None) == side


def test_another_name_is_tissue() -> None:
    assert named_label(1, "class 7").type.meaning == "Tissue"
