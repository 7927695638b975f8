"""Fixtures of the backend's tests: a worker with test verbs, a small volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.backend import WorkerClient
from medseg.volumes import Geometry, Volume
from support.fixtures import bright_blob_package  # noqa: F401 - a fixture
from support.worker_with_test_verbs import THIS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def a_small_volume() -> Volume:
    """Six slices of whole numbers on an oblique grid, with a name that must never travel."""
    array = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    matrix = np.array([[0.8, 0.1, 0.0, -20.0], [-0.1, 0.8, 0.2, 7.5], [0.0, -0.2, 3.0, 11.0], [0, 0, 0, 1]])
    return Volume(array, Geometry(array.shape, matrix), name="Doe^Jane", modality="CT")


@pytest.fixture(scope="module")
def client() -> Iterator[WorkerClient]:
    """A client whose worker has the test verbs; the tests of a module share it."""
    client = WorkerClient(script=THIS)
    yield client
    client.stop()
