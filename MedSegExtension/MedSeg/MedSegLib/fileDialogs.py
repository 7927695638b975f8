"""Asking for files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

if TYPE_CHECKING:
    from MedSegLib.jobSection import StatusLine


def openPath(path: Path, status: StatusLine) -> None:
    """Show a file or folder with the program that the system has for it; without one, tell where it is."""
    if not qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path))):
        sentence = _("This computer has no program that opens {path}. Open it with one of your choice.")
        status.fail(sentence.format(path=path), logged=_("A file could not be opened: there is no program for it."))


def askForFile(title: str, folder: str, filters: str) -> Path | None:
    """Return the file that the user chose to read, None when the user changed her mind."""
    return _path(qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, folder, filters))


def askForFolder(title: str, folder: str) -> Path | None:
    """Return the folder that the user chose, None when the user changed her mind."""
    return _path(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, folder))


def askWhereToSave(title: str, suggestion: str, filters: str) -> Path | None:
    """Return the file that the user chose to write, None when the user changed her mind."""
    return _path(qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, suggestion, filters))


def _path(answer: Any) -> Path | None:
    # Depending on the version of PythonQt the chosen filter comes along.
    text = answer if isinstance(answer, str) else answer[0]
    return Path(text) if text else None
