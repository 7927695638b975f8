"""Correcting a segment from end to end: which tool follows the prompts, and what came out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from medseg.correction.automatic import AutomaticTool
from medseg.correction.classical import SMOOTH_MM, SmoothTool, ThresholdTool
from medseg.correction.growing import FastMarchingTool, RandomWalkerTool
from medseg.correction.prompts import check_plane
from medseg.correction.session import Corrector
from medseg.errors import InputError
from medseg.models import ModelLibrary
from medseg.models.correction import CORRECT, is_flat
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.correction.prompts import Plane, Prompt
    from medseg.correction.region import Region
    from medseg.correction.session import Tool
    from medseg.models import ModelPackage
    from medseg.volumes import Volume

DEFAULT_MODEL, DEFAULT_SLICE_MODEL = "any-structure", "any-slice"
"""The models that are taken when the user names none: for volumes, and for single slices."""

ToolKind = Literal["network", "slice", "threshold", "random-walker", "fast-marching", "smooth", "auto"]
TOOLS: tuple[ToolKind, ...] = get_args(ToolKind)
MODEL_TOOLS = ("network", "slice")
"""Those that a model does the work of."""

LEAST_REGION_MM, MOST_REGION_MM = 5.0, 500.0
LEAST_SMOOTH_MM, MOST_SMOOTH_MM = 0.1, 50.0
MOST_REACH_MM = 300.0


@dataclass(frozen=True)
class CorrectionOptions:
    """How prompts are followed.

    Attributes
    ----------
    tool
        "network", a model that follows clicks; "slice", one that does so in single slices; "threshold", what has a
        similar intensity and is connected with the prompt; "random-walker" and "fast-marching", which grow from
        scribbles; "smooth", the segment around the prompt; "auto", one of these, but for slices and smoothing: a
        threshold when its limits are given, else what suits the first prompt
        (:class:`~medseg.correction.automatic.AutomaticTool`). A random walker needs the package scikit-image.
    region_mm
        Edge of the box around a prompt in which voxels may change; ``None`` chooses by the segment, and takes 30 mm for
        a threshold and for smoothing.
    device
        "auto", "cpu", "cuda" or "cuda:N", for the network.
    low, high
        Intensities between which a threshold finds the segment, in the units of the volume (HU in CT); with one of them
        there is no other limit, with none they are measured where the prompts are.
    smooth_mm
        Thinner spikes and channels are smoothed away.
    plane
        In which slices the tool "slice" follows prompts that do not say it themselves: "axial", "coronal" or
        "sagittal"; ``None``: those in which the prompt is flat, of several those of the best resolution.
    reach_mm
        So far the tool "slice" goes on to each side, slice by slice; 0: it corrects one slice.

    Raises
    ------
    InputError
        When a value cannot be used.
    """

    tool: ToolKind = "network"
    region_mm: float | None = None
    device: str = "auto"
    low: float | None = None
    high: float | None = None
    smooth_mm: float = SMOOTH_MM
    plane: Plane | None = None
    reach_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.tool not in TOOLS:
            raise InputError(f"There is no tool '{self.tool}'.", advice=f"Choose one of {', '.join(TOOLS)}.")
        if self.region_mm is not None and not _lies_between(self.region_mm, LEAST_REGION_MM, MOST_REGION_MM):
            raise InputError(
                f"The region in which voxels may change is {self.region_mm}.",
                advice=f"Give {LEAST_REGION_MM:g} to {MOST_REGION_MM:g} mm, or nothing.",
            )
        if not _lies_between(self.smooth_mm, LEAST_SMOOTH_MM, MOST_SMOOTH_MM):
            raise InputError(
                f"What is thinner than {self.smooth_mm} is to be smoothed away.",
                advice=f"Give {LEAST_SMOOTH_MM:g} to {MOST_SMOOTH_MM:g} mm.",
            )
        check_plane(self.plane)
        if not _lies_between(self.reach_mm, 0.0, MOST_REACH_MM):
            raise InputError(
                f"The slices to go on to lie within {self.reach_mm}.",
                advice=f"Give up to {MOST_REACH_MM:g} mm, or 0 for one slice alone.",
            )
        for limit in (self.low, self.high):
            if limit is not None and not _lies_between(limit, -math.inf, math.inf):
                raise InputError(f"A limit of the intensities is {limit}.", advice="Give a finite number, or nothing.")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InputError(
                f"No intensity lies between {self.low:g} and {self.high:g}.",
                advice="Give a lower limit below the upper one.",
            )


def _lies_between(given: Any, least: float, most: float) -> bool:
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    return is_number and math.isfinite(given) and least <= given <= most


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
    tool
        What followed them; "auto" when there was no prompt to choose by.
    """

    mask: np.ndarray
    region: Region | None
    changed: int
    seconds: float
    tool: str = "network"


def correction_package(
    name_or_folder: str | None = None, library: ModelLibrary | None = None, *, flat: bool = False
) -> ModelPackage:
    """Return the package that follows clicks: by name or folder, else the default, else the only one.

    Parameters
    ----------
    flat
        Whether it is to do so in single slices, by default :data:`DEFAULT_SLICE_MODEL`; else in volumes, by default
        :data:`DEFAULT_MODEL`.

    Raises
    ------
    InputError
        When the named one is of the other kind, or none was named and there is no default.
    ModelError
        When there is none of that name, or it does something else.
    """
    library = library or ModelLibrary()
    if name_or_folder:
        package = library.find(name_or_folder, CORRECT)
        _check_flat(package, flat=flat)
        return package
    packages = [package for package in library.packages(CORRECT) if is_flat(package.window) == flat]
    default, where = (DEFAULT_SLICE_MODEL, " in single slices") if flat else (DEFAULT_MODEL, "")
    for package in packages:
        if package.name == default or len(packages) == 1:
            return package
    if packages:
        raise InputError(
            f"There are several models that follow clicks{where}, and none was chosen.",
            advice=f"Choose one of {', '.join(package.name for package in packages)}.",
        )
    raise InputError(
        f"No model that follows clicks{where} is installed.",
        advice="Install one, train one with a recipe of the task correction, or choose the tool random-walker, "
        "fast-marching or threshold.",
    )


def _check_flat(package: ModelPackage, *, flat: bool) -> None:
    if is_flat(package.window) == flat:
        return
    if flat:
        raise InputError(
            f"The model '{package.name}' follows clicks in volumes, not in single slices.",
            advice="Choose another model, or the tool network.",
        )
    raise InputError(
        f"The model '{package.name}' follows clicks in single slices, not in volumes.",
        advice="Choose another model, or the tool slice.",
    )


def package_for(
    options: CorrectionOptions, name_or_folder: str | None = None, library: ModelLibrary | None = None
) -> ModelPackage | None:
    """Return the package that a tool needs, if it needs any; "auto" does without when none is installed.

    Raises
    ------
    InputError, ModelError
        As :func:`correction_package`.
    """
    library = library or ModelLibrary()
    if options.tool == "auto":
        if _has_limits(options):
            return None
        if not name_or_folder and all(is_flat(package.window) for package in library.packages(CORRECT)):
            return None
    elif options.tool not in MODEL_TOOLS:
        return None
    return correction_package(name_or_folder, library, flat=options.tool == "slice")


def make_tool(
    volume: Volume, options: CorrectionOptions, package: ModelPackage | None = None, network: Any = None
) -> Tool:
    """Return what follows prompts in a volume.

    Parameters
    ----------
    package
        Of the verb "correct"; only the tools "network" and "slice" need it, and "auto" uses it.
    network
        Its network, when it is loaded already; it is put into eval mode and onto the device of the options.

    Raises
    ------
    InputError
        When the tool needs a package, and there is none or one of the other kind.
    DeviceError, ModelError
        When there is no such device, or the model cannot be loaded.
    """

    def made(kind: ToolKind) -> Tool:
        if kind in MODEL_TOOLS:
            return _model_tool(volume, options, package, network, flat=kind == "slice")
        if kind == "threshold":
            return ThresholdTool(volume, options.region_mm, low=options.low, high=options.high)
        if kind == "smooth":
            return SmoothTool(volume, options.smooth_mm, options.region_mm)
        return (RandomWalkerTool if kind == "random-walker" else FastMarchingTool)(volume, options.region_mm)

    if options.tool != "auto":
        return made(options.tool)
    if _has_limits(options):
        return made("threshold")
    return AutomaticTool(volume, made, has_network=package is not None, region_mm=options.region_mm)


def tool_used(tool: Tool, options: CorrectionOptions) -> str:
    """Return of which kind a tool of :func:`make_tool` is; "auto" while it has not been chosen."""
    if isinstance(tool, AutomaticTool):
        return tool.used or "auto"
    return "threshold" if options.tool == "auto" else options.tool


def _has_limits(options: CorrectionOptions) -> bool:
    return options.low is not None or options.high is not None


def _model_tool(
    volume: Volume, options: CorrectionOptions, package: ModelPackage | None, network: Any, *, flat: bool
) -> Tool:
    from medseg.correction.engine import NetworkTool
    from medseg.correction.slices import SliceTool
    from medseg.device import choose_device
    from medseg.models import load_network

    if package is None or package.correction is None:
        raise InputError(
            "No model that follows clicks was given.", advice="Choose one, or one of the tools that need none."
        )
    _check_flat(package, flat=flat)
    network = load_network(package) if network is None else network
    network = network.to(choose_device(options.device).device).eval()
    size = package.window.size_ijk[::-1]
    trained: dict[str, Any] = {"radius": package.correction.radius, "self_loop": package.correction.self_loop}
    if flat:
        return SliceTool(
            network,
            volume,
            plane=options.plane,
            reach_mm=options.reach_mm,
            edge_mm=options.region_mm,
            size=size[1:],
            **trained,
        )
    return NetworkTool(network, volume, edge_mm=options.region_mm, size=size, **trained)


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
        Of the verb "correct"; ``None``: the default, for a tool that needs one.
    allowed
        (k, j, i) bool, where voxels may be changed; ``None``: everywhere.

    Raises
    ------
    MedSegError
        When a prompt cannot be followed, or there is no model.
    """
    options = options or CorrectionOptions()
    if package is None:
        package = package_for(options)
    tool = make_tool(volume, options, package)
    work = Corrector(tool, volume, mask, allowed=allowed)
    start = time.perf_counter()
    region = work.follow(prompts, progress)
    seconds = time.perf_counter() - start
    changed = 0 if region is None else np.count_nonzero(work.mask[region.slices] != mask[region.slices])
    return Correction(work.mask, region, int(changed), seconds, tool_used(tool, options))
