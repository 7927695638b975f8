"""Which Python runs the worker, with which environment, and whether it has what the worker needs.

Only the standard library is imported: the panel uses this at start-up.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.backend.processes import kill_family, start_process
from medseg.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Mapping

MINIMUM_PYTHON = (3, 10)
MINIMUM_VERSIONS = {"numpy": "1.26", "SimpleITK": "2.3", "torch": "2.2", "monai": "1.4"}
"""What the worker needs, in the order in which it is worth installing."""

CHECK_SECONDS = 120.0
"""How long a check may take: the first import of torch from a slow disk under a virus scanner takes a minute."""

_SLICER_VARIABLES = frozenset(
    {
        *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONNOUSERSITE", "PYTHONUSERBASE", "PYTHONEXECUTABLE"),
        *("__PYVENV_LAUNCHER__", "PIP_REQUIRE_VIRTUALENV", "SSL_CERT_FILE", "SLICER_HOME"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_FRAMEWORK_PATH"),
        *("DYLD_FALLBACK_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "TCL_LIBRARY", "TK_LIBRARY", "TCLLIBPATH"),
        *("QT_PLUGIN_PATH", "QML2_IMPORT_PATH", "QTWEBENGINEPROCESS_PATH", "ITK_AUTOLOAD_PATH", "VTK_AUTOLOAD_PATH"),
    }
)
"""What Slicer's launcher sets for its own Python and libraries and what would make another Python load them."""


@dataclass(frozen=True)
class PythonInterpreter:
    """A Python to run the worker with.

    ``source`` says who named it: "setting", "MEDSEG_PYTHON", "PythonSlicer" or "this Python". ``foreign`` is true for
    an environment of the user's own, which must not see the variables of the program that we run in. ``search_path``
    are folders where this process found packages that the same Python, started alone, may not find: a Slicer that was
    built with the system's Python sets up its search path itself.
    """

    path: Path
    source: str
    foreign: bool = False
    search_path: tuple[str, ...] = ()


@dataclass
class InterpreterReport:
    """What :func:`check_interpreter` found: versions as text, ``problems`` as whole sentences with a next step."""

    path: Path
    ok: bool = False
    python: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    cuda: bool = False
    cuda_devices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return one line for the panel: versions and GPU, or the first problem."""
        if self.problems:
            return self.problems[0]
        versions = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        gpu = f"GPU: {', '.join(self.cuda_devices)}" if self.cuda else "no GPU that PyTorch can use"
        return f"Python {self.python}, {versions}; {gpu}."


def find_interpreter(setting: str | None = None, *, environment: Mapping[str, str] | None = None) -> PythonInterpreter:
    """Return the Python for the worker: ``setting``, else ``MEDSEG_PYTHON``, else PythonSlicer, else this Python.

    ``setting`` and ``MEDSEG_PYTHON`` may name the program or the folder of an environment (venv, conda).

    Raises
    ------
    WorkerError
        When a Python that was named on purpose is not there, or Slicer's own cannot be found.
    """
    variables = os.environ if environment is None else environment
    for text, source, where in (
        (setting, "setting", "in MedSeg's settings"),
        (variables.get("MEDSEG_PYTHON"), "MEDSEG_PYTHON", "in the environment variable MEDSEG_PYTHON"),
    ):
        if text and text.strip():
            return _named_interpreter(text.strip(), source, where)
    if inside_slicer(variables):
        found = _python_slicer(variables)
        if found is None:
            raise WorkerError(
                "PythonSlicer, the Python program that belongs to 3D Slicer, was not found.",
                advice="Reinstall 3D Slicer, or choose a Python environment in MedSeg's settings.",
            )
        return PythonInterpreter(found, "PythonSlicer")
    if not sys.executable:
        raise WorkerError(
            "The program of the running Python is not known.", advice="Name one with MEDSEG_PYTHON=/path/to/python."
        )
    return PythonInterpreter(Path(sys.executable), "this Python")


def _named_interpreter(text: str, source: str, where: str) -> PythonInterpreter:
    path = Path(text.strip('"')).expanduser()
    candidates = [path]
    if path.is_dir():
        candidates = [
            path / "bin" / "python3",
            path / "bin" / "python",
            path / "Scripts" / "python.exe",
            path / "python.exe",
        ]
    elif path.parent == Path():
        candidates = [Path(shutil.which(text) or text)]
    for candidate in candidates:
        if candidate.is_file():
            return PythonInterpreter(candidate.absolute(), source, foreign=not _is_ours(candidate.absolute()))
    message = f"There is no Python at {path}, which is named {where}."
    raise WorkerError(message, advice="Choose the python program of an environment, or clear the entry.")


def _is_ours(path: Path) -> bool:
    """Return whether ``path`` is this very Python or one of Slicer's, which needs the variables of its launcher."""
    if path.stem.lower() == "pythonslicer" or _is_inside(str(path), os.environ.get("SLICER_HOME", "")):
        return True
    # A link is not followed: the python of a virtual environment links to another one and yet is not the same.
    return bool(sys.executable) and os.path.normcase(path) == os.path.normcase(Path(sys.executable).absolute())


def inside_slicer(variables: Mapping[str, str] | None = None) -> bool:
    """Return whether this process is the Slicer application (whose ``sys.executable`` is no plain Python)."""
    variables = os.environ if variables is None else variables
    name = Path(sys.executable or "").stem.lower()
    if name == "pythonslicer" or name.startswith("slicer"):
        return True
    return bool(variables.get("SLICER_HOME")) and not name.startswith("python")


def _python_slicer(variables: Mapping[str, str]) -> Path | None:
    name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
    on_path = shutil.which("PythonSlicer", path=variables.get("PATH"))
    if on_path:
        return Path(on_path).absolute()
    folders = [Path(sys.executable).parent] if sys.executable else []
    if variables.get("SLICER_HOME"):
        home = Path(variables["SLICER_HOME"])
        folders += [home / "bin", home]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def worker_environment(
    interpreter: PythonInterpreter,
    environment: Mapping[str, str] | None = None,
    *,
    current: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the environment variables to start ``interpreter`` with.

    PythonSlicer and this Python get the variables of this process (``current``, default ``os.environ``), which
    Slicer's Python needs. A foreign Python gets ``environment`` when given (the one from before the application's
    launcher, as ``slicer.util.startupEnvironment()`` tells), else the current one, in both cases without everything
    that would make it load Slicer's Python, Qt or libraries.
    """
    variables = dict(os.environ if current is None else current)
    if not interpreter.foreign:
        known = [folder for folder in variables.get("PYTHONPATH", "").split(os.pathsep) if folder]
        more = [folder for folder in interpreter.search_path if folder not in known]
        if more:
            variables["PYTHONPATH"] = os.pathsep.join(known + more)
        return variables
    home = variables.get("SLICER_HOME", "")
    cleaned = dict(environment) if environment is not None else variables
    cleaned = {key: value for key, value in cleaned.items() if key.upper() not in _SLICER_VARIABLES}
    if home:
        for key in [key for key in cleaned if key.upper() == "PATH"]:
            cleaned[key] = os.pathsep.join(
                part for part in cleaned[key].split(os.pathsep) if not _is_inside(part, home)
            )
    if "MEDSEG_HOME" in variables:
        cleaned["MEDSEG_HOME"] = variables["MEDSEG_HOME"]
    return cleaned


def _is_inside(folder: str, home: str) -> bool:
    path, root = os.path.normcase(folder), os.path.normcase(home).rstrip(os.sep)
    return bool(root) and (path == root or path.startswith(root + os.sep))


def check_interpreter(
    path: str | Path | PythonInterpreter,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = CHECK_SECONDS,
) -> InterpreterReport:
    """Run a Python once and report what it is and has; never raises for a bad one.

    Needs seconds (torch is really imported, since an installed torch that does not load is no use), so call it from
    a background thread.
    """
    if isinstance(path, PythonInterpreter):
        interpreter = path
    else:
        try:
            interpreter = _named_interpreter(str(path), "setting", "in MedSeg's settings")
        except WorkerError as error:
            return InterpreterReport(Path(path), problems=[str(error)])
    report = InterpreterReport(interpreter.path)
    found = _probe(interpreter, environment, timeout, report)
    if found is not None:
        _judge(found, report)
    report.ok = not report.problems
    return report


def _probe(
    interpreter: PythonInterpreter, environment: Mapping[str, str] | None, timeout: float, report: InterpreterReport
) -> dict[str, Any] | None:
    """Run probe.py; return what it wrote, or None with a problem added to ``report``."""
    path = interpreter.path
    if os.name != "nt" and not os.access(path, os.X_OK):
        report.problems.append(f"{path} is not a program that may be run. Choose the python program of an environment.")
        return None
    command = [str(path), str(Path(__file__).with_name("probe.py")), *MINIMUM_VERSIONS]
    with tempfile.TemporaryFile() as output:
        try:
            process = start_process(
                command,
                environment=worker_environment(interpreter, environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            report.problems.append(
                f"{path} could not be started ({reason}). Choose the python program of another environment."
            )
            return None
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            report.problems.append(
                f"{path} did not answer within {timeout:.0f} s. Try again, or choose another Python environment."
            )
            return None
        finally:
            kill_family(process)
            process.wait()
        output.seek(0)
        text = output.read(1 << 20).decode("utf-8", errors="replace")
    match = re.search(r"^MEDSEG-PROBE (\{.*\})\s*$", text, re.MULTILINE)
    if match is None:
        report.problems.append(
            f"{path} does not work as a Python interpreter (it ended with code {process.returncode}). "
            "Choose the python program of an environment."
        )
        return None
    return dict(json.loads(match.group(1)))


def _judge(found: dict[str, Any], report: InterpreterReport) -> None:
    report.python = str(found["python"])
    report.packages = {str(name): str(version) for name, version in found["packages"].items()}
    report.cuda = bool(found["cuda"])
    report.cuda_devices = [str(name) for name in found["cuda_devices"]]
    if version_tuple(report.python) < MINIMUM_PYTHON:
        wanted = ".".join(map(str, MINIMUM_PYTHON))
        report.problems.append(
            f"{report.path} is Python {report.python}, too old for MedSeg. "
            f"Choose an environment with Python {wanted} or newer."
        )
        return
    missing = [name for name in MINIMUM_VERSIONS if found["errors"].get(name) == "missing"]
    if missing:
        report.problems.append(f"{report.path} lacks {_listed(missing)}. {_how_to_install(report.path, missing)}")
    for name, minimum in MINIMUM_VERSIONS.items():
        problem = package_problem(name, report.packages.get(name), minimum)
        if problem:
            report.problems.append(f"{report.path} has {problem}. Update with: {report.path} -m pip install -U {name}")
        error = found["errors"].get(name)
        if error and error != "missing":
            report.problems.append(
                f"{name} is installed in {report.path} but cannot be imported ({' '.join(error.split())[:200]}). "
                "Reinstall it there, or choose another environment."
            )


def _how_to_install(path: Path, missing: list[str]) -> str:
    if path.stem.lower() == "pythonslicer":
        # In Slicer torch comes with the extension PyTorch, which picks the build for the GPU and driver.
        return "Install them from MedSeg's panel (torch comes with the extension PyTorch), or choose an environment."
    return f"Install with: {path} -m pip install {' '.join(missing)}"


def package_problem(name: str, version: str | None, minimum: str) -> str | None:
    """Return "torch 1.9, older than 2.2" when ``version`` is too old, else None (also when it is absent)."""
    if version is None or version == "?" or version_tuple(version) >= version_tuple(minimum):
        return None
    return f"{name} {version}, older than the {minimum} that MedSeg needs"


def version_tuple(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: "2.13.0+cpu" gives (2, 13, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version.strip())
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
