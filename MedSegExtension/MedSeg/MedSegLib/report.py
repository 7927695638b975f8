"""The log of the panel, and the report that a user pastes into a question."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import slicer

from medseg.version import VERSION

_logger = logging.getLogger(__name__)

MAXIMUM_LINES = 2000


def withoutNames(text: str) -> str:
    """Return a sentence without the names of what is in the scene: people call volumes after patients."""
    # Not all nodes: those of colors and views have names that are common words.
    nodes = [*slicer.util.getNodesByClass("vtkMRMLDisplayableNode"), *slicer.util.getNodesByClass("vtkMRMLTableNode")]
    for name in sorted({node.GetName() for node in nodes if node.GetName()}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    return text


class PanelLog:
    """Lines with the time of day, shown in the panel and handed on to Slicer's own log.

    Neither the lines nor the report hold names of nodes or files of the patient: people paste them into public places.
    """

    def __init__(self, textEdit: Any) -> None:
        self._textEdit = textEdit
        self._textEdit.setMaximumBlockCount(MAXIMUM_LINES)
        self._lines: list[str] = []

    def add(self, text: str, level: int = logging.INFO) -> None:
        """Add one line, or several."""
        for line in text.splitlines():
            stamped = f"{time.strftime('%H:%M:%S')} {line}"
            self._lines.append(stamped)
            self._textEdit.appendPlainText(stamped)
            _logger.log(level, "MedSeg: %s", line)
        del self._lines[:-MAXIMUM_LINES]

    def report(self, facts: dict[str, str], lastRun: str) -> str:
        """Return versions, ``facts``, what the last run reported and the log as text."""
        head = {
            "MedSeg": VERSION,
            "3D Slicer": slicer.app.applicationVersion,
            "Platform": f"{slicer.app.platform} ({slicer.app.os} {slicer.app.arch})",
            **facts,
        }
        lines = ["MedSeg report", *(f"{name}: {value}" for name, value in head.items())]
        if lastRun:
            lines += ["", "Last run", lastRun]
        return "\n".join([*lines, "", "Panel", *self._lines])
