"""The ways to register that are compared."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from benchmarks.registration.ours import ours
from benchmarks.registration.rivals import ants, demons, elastix
from medseg.models import ModelLibrary

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.registration.job import Job
    from medseg.registration import SpatialTransform

INSTALL = "pip install -e .[bench]"


@dataclass(frozen=True)
class Method:
    """One way to register.

    Attributes
    ----------
    title
        In the table.
    run
        Registers the pair of a job, in a process of its own.
    side
        "ours", or whose rival it is.
    module, package
        What has to be installed; "" for what MedSeg brings along.
    contrasts
        What pairs it is meant for: of "one" contrast, of "several", or "any".
    asked
        Whether it runs only when it is asked for by name.
    """

    title: str
    run: Callable[[Job], SpatialTransform]
    side: Literal["ours", "syn", "elastix", "demons"] = "ours"
    module: str = ""
    package: str = ""
    contrasts: Literal["one", "several", "any"] = "any"
    asked: bool = False

    def missing(self) -> str:
        """Return why it cannot run here, "" when it can."""
        if self.module and importlib.util.find_spec(self.module) is None:
            return f"{self.package} is not installed ({INSTALL})"
        return ""

    def version(self) -> str:
        """Return the package and its version, "" for what MedSeg brings along."""
        return f"{self.package} {metadata.version(self.package)}" if self.package and not self.missing() else ""


def _ours(title: str, method: str, effort: str = "quick") -> Method:
    return Method(title, functools.partial(ours, method=method, effort=effort))


def _ours_with_mind(title: str, method: str, effort: str) -> Method:
    run = functools.partial(ours, method=method, effort=effort, similarity="mind")
    return Method(title, run, contrasts="several")


def _ants(title: str, preset: str, *, asked: bool = False) -> Method:
    return Method(title, functools.partial(ants, preset=preset), "syn", "ants", "antspyx", asked=asked)


def _with_model() -> dict[str, Method]:
    """Return the methods of the default model that registers, where there is one."""
    if not any(package.verb == "register" for package in ModelLibrary().packages()):
        return {}
    return {
        "model": _ours("model, one pass", "model", "none"),
        "model-quick": _ours("model, refined quick", "model", "quick"),
        "model-full": _ours("model, refined full", "model", "full"),
    }


METHODS: dict[str, Method] = {
    "affine": _ours("affine", "affine"),
    "field-quick": _ours("field (IO), quick", "field", "quick"),
    "field-full": _ours("field (IO), full", "field", "full"),
    "lapirn-quick": _ours("LapIRN from fresh weights (NIO), quick", "lapirn", "quick"),
    "lapirn-full": _ours("LapIRN from fresh weights (NIO), full", "lapirn", "full"),
    "field-mind": _ours_with_mind("field (IO), full, MIND chosen by the user", "field", "full"),
    **_with_model(),
    "ants-syn": _ants("ANTs SyN, defaults of antspyx", "SyN"),
    "ants-syn-quick": _ants("ANTs SyN, the script antsRegistrationSyNQuick", "antsRegistrationSyNQuick[s]"),
    "ants-syn-script": _ants("ANTs SyN, the script antsRegistrationSyN", "antsRegistrationSyN[s]", asked=True),
    "elastix": Method("elastix, default B-spline", elastix, "elastix", "itk", "itk-elastix"),
    "demons": Method("Demons of SimpleITK, diffeomorphic", demons, "demons", "SimpleITK", "SimpleITK", contrasts="one"),
}
