"""Fixtures and options that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytest_plugins = ["support.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top folder of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real volumes; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("MEDSEG_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "README.md").is_file():
        pytest.skip(f"real volumes are not here ({folder}); set MEDSEG_TEST_DATA to their folder")
    return folder


@pytest.fixture(autouse=True)
def a_user_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the models and settings of the person who runs it."""
    folder = tmp_path_factory.mktemp("medseg-home")
    monkeypatch.setenv("MEDSEG_HOME", str(folder))
    monkeypatch.delenv("MEDSEG_PYTHON", raising=False)
    return folder
