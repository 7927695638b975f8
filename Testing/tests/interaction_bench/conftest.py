"""A scan of two blocks, as a case of the comparison, and a network that nobody has trained."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.interaction.cases import Case, Scan
from medseg.models import ModelPackage, read_package
from medseg.volumes import Geometry, Volume
from support.correction import write_clicks_package


def two_blocks() -> Scan:
    """A bright block beside one that is a little darker, 2 mm; the bright one is the structure."""
    geometry = Geometry.from_spacing((30, 32, 34), (2.0, 2.0, 2.0))
    truth = np.zeros(geometry.shape, bool)
    truth[8:20, 8:22, 6:18] = True
    image = 100.0 * truth
    image[8:20, 8:22, 20:30] = 60.0
    image += np.random.default_rng(0).normal(0, 2, image.shape)
    return Volume(image.astype(np.float32), geometry), truth


@pytest.fixture(scope="session")
def blocks() -> Scan:
    return two_blocks()


@pytest.fixture
def a_case() -> Case:
    return Case("blocks", "scan 1", "Block", seen=True, build=two_blocks)


@pytest.fixture(scope="session")
def a_package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return read_package(write_clicks_package(tmp_path_factory.mktemp("models") / "any-structure"))
