"""Which Python runs the worker: the user's setting, or the one that belongs to this Slicer."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import qt
import slicer

if TYPE_CHECKING:
    from medseg.backend.interpreter import PythonInterpreter

PYTHON_SETTING = "MedSeg/PythonInterpreter"


def pythonSetting() -> str:
    """Return the path that the user entered, empty for Slicer's own Python."""
    return str(qt.QSettings().value(PYTHON_SETTING, "") or "").strip()


def setPythonSetting(path: str) -> None:
    """Remember the path of a Python program or environment; empty means Slicer's own."""
    if path.strip():
        qt.QSettings().setValue(PYTHON_SETTING, path.strip())
    else:
        qt.QSettings().remove(PYTHON_SETTING)


def usesOwnEnvironment() -> bool:
    """Whether the user named a Python, in the panel or with ``MEDSEG_PYTHON``; MedSeg installs nothing there."""
    return bool(pythonSetting() or os.environ.get("MEDSEG_PYTHON", "").strip())


def slicerPythonCandidates() -> list[Path]:
    """Return where the Python program of this Slicer may be, the likeliest first.

    A release has ``bin/PythonSlicer`` in its home; a build tree has it in the folder that ``PYTHONHOME`` names. A
    Slicer that was built with the system's Python has none: there the plain program of that Python does, with the
    variables of this process.
    """
    suffix = ".exe" if os.name == "nt" else ""
    homes = [slicer.app.slicerHome, os.environ.get("PYTHONHOME", ""), sys.prefix]
    candidates = [Path(home) / "bin" / f"PythonSlicer{suffix}" for home in homes if home]
    names = [f"python{sys.version_info.major}.{sys.version_info.minor}", "python3", "python"]
    folders = [Path(sys.prefix) / "bin", Path(sys.base_prefix) / "bin", Path(sys.prefix)]
    if sysconfig.get_config_var("BINDIR"):
        folders.append(Path(sysconfig.get_config_var("BINDIR")))
    candidates += [folder / f"{name}{suffix}" for folder in folders for name in names]
    return candidates


def chooseInterpreter() -> PythonInterpreter:
    """Return the Python that runs the worker.

    Raises
    ------
    WorkerError
        When the one that the user named is not there, or Slicer's own cannot be found.
    """
    from medseg.backend.interpreter import PythonInterpreter, find_interpreter
    from medseg.errors import WorkerError

    try:
        found = find_interpreter(pythonSetting() or None)
    except WorkerError:
        if usesOwnEnvironment():
            raise
        candidate = next((path for path in slicerPythonCandidates() if path.is_file()), None)
        if candidate is None:
            raise
        found = PythonInterpreter(candidate, "Slicer's Python")
    return found if found.foreign else dataclasses.replace(found, search_path=_packageFolders())


def _packageFolders() -> tuple[str, ...]:
    """Return the folders in which Slicer's Python finds what the worker needs, without importing any of it."""
    from medseg.backend.interpreter import MINIMUM_VERSIONS

    specs = [importlib.util.find_spec(name) for name in MINIMUM_VERSIONS]
    folders = [str(Path(spec.origin).parents[1]) for spec in specs if spec is not None and spec.origin]
    return tuple(dict.fromkeys(folders))


def startupEnvironment() -> dict[str, str]:
    """Return the environment from before Slicer's launcher changed it, for a Python of the user's own."""
    return {str(name): str(value) for name, value in slicer.util.startupEnvironment().items()}
