"""Asking for files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer


def openPath(path: Path) -> None:
    """Show a file or folder with the program that the system has for it."""
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))


def askForFile(title: str, folder: str, filters: str) -> Path | None:
    """Return the file that the user chose to read, None when the user changed her mind."""
    return _path(qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, folder, filters))


def askWhereToSave(title: str, suggestion: str, filters: str) -> Path | None:
    """Return the file that the user chose to write, None when the user changed her mind."""
    return _path(qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, suggestion, filters))


def _path(answer: Any) -> Path | None:
    # Depending on the version of PythonQt the chosen filter comes along.
    text = answer if isinstance(answer, str) else answer[0]
    return Path(text) if text else None
