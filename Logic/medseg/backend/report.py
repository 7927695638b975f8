"""The text behind "copy report": what a developer needs, and nothing about the patient."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.backend.run_folder import PREFIX
from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.backend.interpreter import PythonInterpreter
    from medseg.backend.job import Job


def job_report(
    job: Job, interpreter: PythonInterpreter | None, versions: Mapping[str, str], last_words: str = ""
) -> str:
    """Return the report of a job: versions, interpreter, the inputs' sizes, log, error and traceback."""
    lines = [
        f"MedSeg {VERSION}, {platform.platform()}, Python {platform.python_version()}",
        f"Worker: {interpreter.path} ({interpreter.source})" if interpreter is not None else "Worker: not started",
        "Versions: " + (", ".join(f"{name} {version}" for name, version in versions.items()) or "unknown"),
        f"Job: {job.what}, {job.state} at {job.progress:.0%}",
        *job.facts,
        "Log:",
        *(f"  {line}" for line in job.log),
    ]
    if job.device:
        lines.insert(4, f"Device: {job.device}")
    if job.error is not None:
        lines += [f"Error: {job.error}"]
    if job.details:
        lines += ["Details:", job.details]
    if last_words and job.state == "failed":
        lines += ["Worker's output:", last_words]
    return redact("\n".join(lines))


def redact(text: str) -> str:
    """Replace the user's home folder, temporary folder and run folders, which hold names, by what they are."""
    for folder, word in ((str(Path.home()), "~"), (tempfile.gettempdir(), "<temporary>")):
        if len(folder) > len(os.sep):
            text = re.sub(rf"(?<![\w.-]){re.escape(folder)}(?![\w.-])", word, text)
    return re.sub(rf"{PREFIX}\w+", f"{PREFIX}…", text)
