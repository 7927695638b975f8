"""What a run of a package that registers costs: ``python -m medseg.training.registration.measure``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from medseg.training.measure import measured_apart, tell_cost

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.models import Measured
    from medseg.progress import Progress


def measure_registration_cost(package: Path, progress: Progress) -> Measured | None:
    """Register a synthetic pair once with ``package`` on the CPU, in a process of its own; see :func:`measured_apart`.

    What is measured is the affine alignment, one pass of the network, and the figures of the result; no refinement.
    """
    return measured_apart([sys.executable, "-m", "medseg.training.registration.measure", str(package)], progress)


def main(arguments: list[str]) -> None:
    """Register a synthetic pair and tell what it cost."""
    from medseg.device import peak_memory
    from medseg.models import load_network, read_package
    from medseg.registration import RegistrationOptions, register
    from medseg.training.synthesis import Draws, GridSection, PaintingSection, PairSection, ShapeSection, pair_of_shapes
    from medseg.volumes import Geometry, Volume

    (folder,) = arguments
    package = read_package(folder)
    spacing, size = float(package.preprocessing.spacing[0] or 1.0), package.window.size_ijk
    grid = GridSection(size=size, spacing=spacing)
    pair = pair_of_shapes(Draws(0), grid=grid, shapes=ShapeSection(), section=PairSection(), painting=PaintingSection())
    geometry = Geometry.from_spacing(size[::-1], (spacing,) * 3)
    fixed, moving = (Volume(image.numpy().transpose(2, 1, 0).copy(), geometry) for image in (pair.fixed, pair.moving))
    options = RegistrationOptions("model", refine="none", model=str(folder), device="cpu")
    network = load_network(package)
    memory = peak_memory()
    register(fixed, moving, options, network=network)
    # Once more, so that imports and the first use of everything do not count.
    start = time.perf_counter()
    register(fixed, moving, options, network=network)
    tell_cost(time.perf_counter() - start, memory, geometry)


if __name__ == "__main__":
    main(sys.argv[1:])
