"""What the figures of a registration mean, in plain sentences. Text only: no widgets, no nodes.

The limits are our choices; the figures themselves are in the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST_GAIN = 0.005
"""Of correlation or mutual information; less is no change."""

MOST_INVERSE_ERROR_MM = 2.0

FOLDS = ("folded_share", "folded_share_strict", "non_diffeomorphic_volume")
"""Of a deformation. The first, by central differences, is blind to a fold between two voxels."""


def verdict(figures: Mapping[str, Any]) -> str:
    """Return whether the volumes fit better than before, and what speaks against the result."""
    sentences = [_likeness(figures), _landmarks(figures), _foldless(figures), _inverse(figures)]
    return " ".join(sentence for sentence in sentences if sentence)


def _likeness(figures: Mapping[str, Any]) -> str:
    overlap = figures.get("overlap")
    if overlap and overlap["mean_dice_before"] is not None and overlap["mean_dice_after"] is not None:
        before, after = overlap["mean_dice_before"], overlap["mean_dice_after"]
        name = _("the mean Dice of the segments")
    else:
        pairs = {
            _("their correlation"): ("correlation_before", "correlation_after"),
            _("their mutual information"): ("information_before", "information_after"),
        }
        known = {
            name: (figures[first], figures[second])
            for name, (first, second) in pairs.items()
            if figures.get(first) is not None and figures.get(second) is not None
        }
        if not known:
            return _("How alike the volumes are is not known: look at them.")
        # Volumes of two modalities may fit better with less correlation.
        name, (before, after) = max(known.items(), key=lambda entry: entry[1][1] - entry[1][0])
    change = _("({name} went from {before:.2f} to {after:.2f})").format(name=name, before=before, after=after)
    if after - before >= LEAST_GAIN:
        return _("The volumes fit better than before {change}.").format(change=change)
    return _("The volumes do not fit better than before {change}: check the result, or begin elsewhere.").format(
        change=change
    )


def _landmarks(figures: Mapping[str, Any]) -> str:
    before, after = figures.get("landmarks_before"), figures.get("landmarks_after")
    if not before or not after:
        return ""
    sentence = _("The landmarks are {after:.1f} mm apart on average, after {before:.1f} mm before.")
    return sentence.format(after=after["mean_mm"], before=before["mean_mm"])


def _foldless(figures: Mapping[str, Any]) -> str:
    """Say that nothing folds, by the strictest measure; what folds is among the notices of the result."""
    deformation = figures.get("deformation")
    isFoldless = bool(deformation) and all(deformation[name] == 0 for name in FOLDS)
    return _("The deformation folds nowhere.") if isFoldless else ""


def _inverse(figures: Mapping[str, Any]) -> str:
    error = figures.get("inverse_error_mm")
    if error is None or error <= MOST_INVERSE_ERROR_MM:
        return ""
    return _("The inverse is off by up to {error:.1f} mm.").format(error=error)
