"""The box of the body stretched to a fixed plane, as steps of a MONAI bundle: written for MONAI, read as data.

The box needs a function of the image, which a bundle can only give as an expression. Two expressions are written and
recognised, by their text; nothing is evaluated.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from medseg.models.preprocessing import FitInPlane

if TYPE_CHECKING:
    from medseg.models.fields import Fields

_BEYOND_ANY_STACK = 65536
"""Voxels by which the box is widened along k, so that MONAI keeps every slice."""

_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?(?:e[+-]?[0-9]{1,2})?"
_ABOVE = re.compile(rf"\$lambda x: x > ({_NUMBER})")
_LARGEST_ABOVE = re.compile(
    rf"\$lambda x: monai\.transforms\.utils\.get_largest_connected_component_mask\(x > ({_NUMBER})\)"
)


def crop_step(fit: FitInPlane, key: str) -> dict[str, Any]:
    """Return MONAI's crop to the box of the body, which keeps all slices."""
    above = f"x > {float(fit.threshold)!r}"
    if fit.largest_component:
        above = f"monai.transforms.utils.get_largest_connected_component_mask({above})"
    return {
        "_target_": "CropForegroundd",
        "keys": key,
        "source_key": key,
        "select_fn": f"$lambda x: {above}",
        "margin": [0, 0, _BEYOND_ANY_STACK],
        "allow_smaller": True,
    }


def stretch_step(fit: FitInPlane, key: str) -> dict[str, Any]:
    """Return MONAI's resampling of the plane to the fixed number of voxels, over the same field of view."""
    return {"_target_": "Resized", "keys": key, "spatial_size": [*fit.size, -1], "mode": "trilinear"}


def is_known_selection(value: Any) -> bool:
    """Say whether an expression is one that :func:`crop_step` writes."""
    return isinstance(value, str) and bool(_ABOVE.fullmatch(value) or _LARGEST_ABOVE.fullmatch(value))


def read_steps(crop: Fields, stretch: Fields) -> FitInPlane:
    """Return what a crop and a stretch of a bundle mean together.

    Raises
    ------
    ModelError
        When they are not what :func:`crop_step` and :func:`stretch_step` write.
    InputError
        When a size or the threshold is out of range.
    """
    if crop.data.get("source_key") != crop.data.get("keys"):
        raise crop.fail("source_key", "the key itself")
    if crop.data.get("margin") != [0, 0, _BEYOND_ANY_STACK]:
        raise crop.fail("margin", f"[0, 0, {_BEYOND_ANY_STACK}], a box in the plane only")
    if crop.data.get("allow_smaller") is not True:
        raise crop.fail("allow_smaller", "true")
    selection = crop.text("select_fn", limit=200)
    found, largest = _ABOVE.fullmatch(selection), _LARGEST_ABOVE.fullmatch(selection)
    match = found or largest
    if match is None:
        raise crop.fail("select_fn", "a threshold that MedSeg knows")
    size = stretch.data.get("spatial_size")
    if not isinstance(size, list) or len(size) != 3 or not all(type(item) is int for item in size) or size[2] != -1:
        raise stretch.fail("spatial_size", "two whole numbers and -1")
    if stretch.data.get("mode", "area") != "trilinear":
        raise stretch.fail("mode", "trilinear")
    return FitInPlane((size[0], size[1]), float(match.group(1)), largest is not None)
