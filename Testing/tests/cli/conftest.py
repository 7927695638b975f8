"""Fixtures of the command line's tests: the command itself, volumes with bright spheres and a model that finds them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from medseg.cli import app
from medseg.volumes import write_volume
from support.packages import bright_blob_case

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    from medseg.volumes import Volume


@pytest.fixture
def medseg() -> Callable[..., Result]:
    """Run the command in this process and return its exit code and output."""
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def an_installed_model(bright_blob_package: Path, a_user_folder_of_its_own: Path) -> str:
    """The name of a model in the user's folder."""
    folder = a_user_folder_of_its_own / "models" / "bright-blob"
    shutil.copytree(bright_blob_package, folder)
    return "bright-blob"


@pytest.fixture
def a_blob_file(tmp_path: Path) -> Callable[..., tuple[Path, Volume]]:
    """Write a volume with bright spheres under a name and return its path and its truth."""

    def write(name: str, seed: int = 1, **options: object) -> tuple[Path, Volume]:
        image, truth = bright_blob_case(seed, (32, 40, 36), **options)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(image, path)
        return path, truth

    return write
