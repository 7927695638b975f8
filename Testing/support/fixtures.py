"""Fixtures that the tests of several layers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.packages import write_bright_blob_package

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def bright_blob_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small trained model that segments bright spheres; read only (copy it to change it)."""
    return write_bright_blob_package(tmp_path_factory.mktemp("models") / "bright-blob")
