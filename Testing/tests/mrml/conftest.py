"""What the tests of the MRML layer share: a real scene and a result to write into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.mrml import volume_from_node
from support.mrml import a_scene, a_volume_node, an_mrml_application, no_vtk_errors  # noqa: F401 - fixtures
from support.results import result_on

if TYPE_CHECKING:
    from medseg.segmentation.results import SegmentationResult


@pytest.fixture
def some_labels() -> np.ndarray:
    """Labels (k, j, i) of 10 x 11 x 12 voxels: value 1 in one corner, 200 in another, 3 nowhere."""
    array = np.zeros((10, 11, 12), dtype=np.uint8)
    array[2:5, 3:6, 1:9] = 1
    array[6:8, 8:11, 9:12] = 200
    return array


@pytest.fixture
def a_result(a_volume_node: Any, some_labels: np.ndarray) -> SegmentationResult:  # noqa: F811
    """A result for ``a_volume_node`` in which the kidney was not found."""
    return result_on(volume_from_node(a_volume_node), some_labels)
