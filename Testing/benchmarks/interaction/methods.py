"""The ways to follow clicks that are compared."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib.util
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from benchmarks.interaction import rivals
from medseg.correction.engine import NetworkTool
from medseg.correction.pipeline import CorrectionOptions, make_tool
from medseg.models import load_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from medseg.correction.session import Tool
    from medseg.models import ModelPackage
    from medseg.volumes import Volume

INSTALL = "pip install -e .[dev]"

NETWORKS: dict[str, str] = {
    "network": "",
    "no-loop": "without the Self-Loop",
    "no-memory": "without TSIP",
}
"""Ways to run a package, and what is said behind its name."""


@dataclass(frozen=True)
class RivalMethod:
    """A classical tool: what the tables call it, what stands in for the network, and what has to be installed."""

    title: str
    make: Callable[[], rivals.Rival]
    module: str
    package: str

    def missing(self) -> str:
        """Return why it cannot run here, "" when it can."""
        if importlib.util.find_spec(self.module) is None:
            return f"{self.package} is not installed ({INSTALL})"
        return ""

    def version(self) -> str:
        """Return the package and its version, "" when it is missing."""
        return "" if self.missing() else f"{self.package} {metadata.version(self.package)}"


RIVALS: dict[str, RivalMethod] = {
    "random-walker": RivalMethod("random walker", rivals.random_walker, "skimage", "scikit-image"),
    "random-walker-sharp": RivalMethod(
        f"random walker, beta {rivals.SHARP_BETA:g}",
        functools.partial(rivals.random_walker, rivals.SHARP_BETA),
        "skimage",
        "scikit-image",
    ),
    "grow-cut": RivalMethod("grow-cut", rivals.grow_cut, "slicer", "slicer-core"),
}
METHODS = (*NETWORKS, *RIVALS)


@dataclass(eq=False)
class Contestant:
    """One way to follow clicks, ready to be asked.

    Attributes
    ----------
    method
        One of :data:`METHODS`.
    title
        In the tables.
    load
        Loads what it needs, and returns what makes its tool for a volume; called once, and only when it has to work.
    weights
        SHA-256 of its weights, "" for a rival.
    missing
        Why it cannot run here, "" when it can.
    """

    method: str
    title: str
    load: Callable[[], Callable[[Volume], Tool]]
    weights: str = ""
    missing: str = ""

    @functools.cached_property
    def make_tool(self) -> Callable[[Volume], Tool]:
        """Makes its tool for a volume."""
        return self.load()

    @property
    def side(self) -> Literal["network", "ablation", "rival"]:
        """What it is there for."""
        if self.method in RIVALS:
            return "rival"
        return "network" if self.method == "network" else "ablation"


def contestants(methods: Sequence[str], packages: Sequence[ModelPackage], device: str = "auto") -> list[Contestant]:
    """Return the chosen methods: every package as it is, the ablations of the first one, and the rivals.

    Parameters
    ----------
    packages
        Of the verb "correct".
    device
        Of the networks; "auto", "cpu", "cuda" or "cuda:N". The rivals run on the processor.
    """
    names = _names(packages)
    found = [
        _of_package(method, package, name, device)
        for method in NETWORKS
        for package, name in list(zip(packages, names, strict=True))[: None if method == "network" else 1]
        if method in methods and _has(method, package)
    ]
    found += [
        Contestant(name, rival.title, functools.partial(_rival_tools, rival), missing=rival.missing())
        for name, rival in RIVALS.items()
        if name in methods
    ]
    return found


def _names(packages: Sequence[ModelPackage]) -> list[str]:
    """Return what the packages are called; those of one name with the folder in which theirs lies."""
    names = [package.name for package in packages]
    return [
        name if names.count(name) == 1 else f"{name} ({_outer(package.folder)})"
        for name, package in zip(names, packages, strict=True)
    ]


def _outer(folder: Path) -> str:
    return folder.resolve().parent.name


def _has(method: str, package: ModelPackage) -> bool:
    """Return whether there is something to leave out; of TSIP only the network itself knows."""
    return method != "no-loop" or (package.correction is not None and package.correction.self_loop)


def _of_package(method: str, package: ModelPackage, name: str, device: str) -> Contestant:
    title = ", ".join(filter(None, (name, NETWORKS[method])))
    load = functools.partial(_network_tools, method, package, device)
    return Contestant(method, title, load, weights=package.weights.sha256)


def _network_tools(method: str, package: ModelPackage, device: str) -> Callable[[Volume], Tool]:
    """Return what makes tools as MedSeg itself makes them, but for what is left out."""
    network = load_network(package)
    if method == "no-memory":
        network = copy.deepcopy(network)
        network.memory = None
    if method == "no-loop":
        assert package.correction is not None
        package = dataclasses.replace(package, correction=dataclasses.replace(package.correction, self_loop=False))
    options = CorrectionOptions(device=device)
    return lambda volume: make_tool(volume, options, package, network)


def _rival_tools(rival: RivalMethod) -> Callable[[Volume], Tool]:
    stand_in = rival.make().eval()
    return lambda volume: NetworkTool(stand_in, volume, self_loop=False)
