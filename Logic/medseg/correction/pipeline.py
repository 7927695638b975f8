"""Correcting a segment from end to end: which tool follows the prompts, and what came out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from medseg.correction.session import Corrector
from medseg.errors import InputError
from medseg.models import ModelLibrary
from medseg.models.correction import CORRECT
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.correction.prompts import Prompt
    from medseg.correction.region import Region
    from medseg.correction.session import Tool
    from medseg.models import ModelPackage
    from medseg.volumes import Volume

DEFAULT_MODEL = "any-structure"
"""The model that is taken when the user names none."""

ToolKind = Literal["network"]
TOOLS: tuple[ToolKind, ...] = get_args(ToolKind)

LEAST_REGION_MM, MOST_REGION_MM = 5.0, 500.0


@dataclass(frozen=True)
class CorrectionOptions:
    """How prompts are followed.

    Attributes
    ----------
    tool
        "network", a model that follows clicks.
    region_mm
        Edge of the box around a prompt in which voxels may change; ``None`` chooses by the segment.
    device
        "auto", "cpu", "cuda" or "cuda:N", for the network.

    Raises
    ------
    InputError
        When a value cannot be used.
    """

    tool: ToolKind = "network"
    region_mm: float | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.tool not in TOOLS:
            raise InputError(f"There is no tool '{self.tool}'.", advice=f"Choose one of {', '.join(TOOLS)}.")
        given = self.region_mm
        if given is not None and not (
            isinstance(given, (int, float)) and math.isfinite(given) and LEAST_REGION_MM <= given <= MOST_REGION_MM
        ):
            raise InputError(
                f"The region in which voxels may change is {given}.",
                advice=f"Give {LEAST_REGION_MM:g} to {MOST_REGION_MM:g} mm, or nothing.",
            )


@dataclass(frozen=True, eq=False)
class Correction:
    """A corrected segment.

    Attributes
    ----------
    mask
        (k, j, i) bool.
    region
        Outside of it the segment is what it was; ``None`` without prompts.
    changed
        Voxels that are other than before.
    seconds
        For all prompts.
    """

    mask: np.ndarray
    region: Region | None
    changed: int
    seconds: float


def correction_package(name_or_folder: str | None = None, library: ModelLibrary | None = None) -> ModelPackage:
    """Return the package that follows clicks: by name or folder, else :data:`DEFAULT_MODEL`, else the only one.

    Raises
    ------
    InputError
        When none was named and there is no default.
    ModelError
        When there is none of that name, or it does something else.
    """
    library = library or ModelLibrary()
    if name_or_folder:
        return library.find(name_or_folder, CORRECT)
    packages = library.packages(CORRECT)
    for package in packages:
        if package.name == DEFAULT_MODEL or len(packages) == 1:
            return package
    if packages:
        raise InputError(
            "There are several models that follow clicks, and none was chosen.",
            advice=f"Choose one of {', '.join(package.name for package in packages)}.",
        )
    raise InputError(
        "No model that follows clicks is installed.",
        advice="Install one, or train one with a recipe of the task correction.",
    )


def make_tool(volume: Volume, options: CorrectionOptions, package: ModelPackage | None, network: Any = None) -> Tool:
    """Return what follows prompts in a volume.

    Parameters
    ----------
    package
        Of the verb "correct"; only the tool "network" needs it.
    network
        Its network, when it is loaded already; it is put into eval mode and onto the device of the options.

    Raises
    ------
    DeviceError, ModelError
        When there is no such device, or the model cannot be loaded.
    """
    from medseg.correction.engine import NetworkTool
    from medseg.device import choose_device
    from medseg.models import load_network

    assert package is not None
    assert package.correction is not None
    network = load_network(package) if network is None else network
    device = choose_device(options.device).device
    return NetworkTool(
        network.to(device).eval(),
        volume,
        edge_mm=options.region_mm,
        size=package.window.size_ijk[::-1],
        radius=package.correction.radius,
        self_loop=package.correction.self_loop,
    )


def correct(
    volume: Volume,
    mask: np.ndarray,
    prompts: Sequence[Prompt],
    options: CorrectionOptions | None = None,
    *,
    package: ModelPackage | None = None,
    allowed: np.ndarray | None = None,
    progress: Progress = NO_PROGRESS,
) -> Correction:
    """Correct a segment by prompts, in their order.

    Parameters
    ----------
    volume
        Of one channel.
    mask
        (k, j, i) bool, the segment as it is; all ``False`` to begin from nothing.
    package
        Of the verb "correct"; ``None``: the default.
    allowed
        (k, j, i) bool, where voxels may be changed; ``None``: everywhere.

    Raises
    ------
    MedSegError
        When a prompt cannot be followed, or there is no model.
    """
    options = options or CorrectionOptions()
    if package is None and options.tool == "network":
        package = correction_package()
    work = Corrector(make_tool(volume, options, package), volume, mask, allowed=allowed)
    start = time.perf_counter()
    region = work.follow(prompts, progress)
    seconds = time.perf_counter() - start
    changed = 0 if region is None else np.count_nonzero(work.mask[region.slices] != mask[region.slices])
    return Correction(work.mask, region, int(changed), seconds)
