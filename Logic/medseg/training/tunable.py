"""Which models a training can go on from with a few cases. Cheap to import and to ask: no file of weights is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.models.package import BUNDLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medseg.models import ModelPackage


def tunable(packages: Iterable[ModelPackage]) -> list[ModelPackage]:
    """Return those of some models that can be gone on from, in their order."""
    return [
        package
        for package in packages
        if package.verb == "segment" and package.weights.present and not obstacle(package)
    ]


def obstacle(package: ModelPackage) -> str:
    """Return why a model that segments cannot be gone on from, as the end of a sentence about it; empty when it can."""
    if package.instances is not None:
        return "tells instances apart, which corrected cases do not number"
    if package.kind != BUNDLE:
        return "was not made by MedSeg: its images are prepared in another way"
    if package.output_channels != package.labels.values[-1] + 1:
        return "was not made by MedSeg: its network does not give a score for each label and the background"
    return ""
