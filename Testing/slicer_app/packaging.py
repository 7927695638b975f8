"""The module ``slicer.packaging``. Checks are real; an installation is recorded and never done.

Written anew after the behaviour of Slicer's own (Base/Python/slicer/packaging.py).
"""

from __future__ import annotations

import logging as _logging
import sys as _sys
from collections.abc import Callable as _Callable
from importlib import metadata as _metadata
from pathlib import Path

import slicer as _slicer
from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement

if _sys.version_info >= (3, 11):
    import tomllib as _toml
else:
    import tomli as _toml

_installations: list[list[str]] = []


def load_requirements(path: str | Path) -> list[Requirement]:
    """The requirements of a requirements.txt; comments and pip's options are left out."""
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def load_pyproject_dependencies(path: str | Path) -> list[Requirement]:
    """``[project.dependencies]`` of a pyproject.toml; KeyError without a ``[project]`` table."""
    document = _toml.loads(Path(path).read_text(encoding="utf-8"))
    if "project" not in document:
        message = f"pyproject.toml has no [project] table: {path}"
        raise KeyError(message)
    return [Requirement(text) for text in document["project"].get("dependencies", [])]


def _as_requirements(given: str | Requirement | list[str | Requirement]) -> list[Requirement]:
    if isinstance(given, Requirement):
        return [given]
    if isinstance(given, str):
        try:
            return [Requirement(given)]
        except InvalidRequirement:
            return [Requirement(part) for part in given.split()]
    if isinstance(given, list):
        return [Requirement(part) if isinstance(part, str) else part for part in given]
    message = f"Expected str, Requirement, or list, got {type(given).__name__}"
    raise TypeError(message)


def _satisfied(requirement: Requirement, seen: set[tuple[str, frozenset[str]]]) -> bool:
    environment: dict[str, str] = dict(default_environment())
    if requirement.marker is not None and not requirement.marker.evaluate(environment):
        return True
    key = (requirement.name.lower(), frozenset(requirement.extras))
    if key in seen:
        return True
    seen.add(key)
    try:
        installed = _metadata.version(requirement.name)
    except _metadata.PackageNotFoundError:
        return False
    if installed not in requirement.specifier:
        return False
    for text in _metadata.requires(requirement.name) or [] if requirement.extras else []:
        dependency = Requirement(text)
        marker = dependency.marker
        if marker is not None and any(marker.evaluate({**environment, "extra": e}) for e in requirement.extras):
            dependency.marker = None
            if not _satisfied(dependency, seen):
                return False
    return True


def pip_check(
    req: str | Requirement | list[str | Requirement],
    _seen: set[tuple[str, frozenset[str]]] | None = None,
) -> bool:
    """Whether every requirement is installed at an acceptable version, extras included."""
    seen = set() if _seen is None else _seen
    return all(_satisfied(requirement, seen) for requirement in _as_requirements(req))


def isPipInstallInProgress() -> bool:
    return False


def pip_ensure(
    requirements: str | Requirement | list[str | Requirement],
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    """Ask for and record the installation of what is missing; RuntimeError when the user declines."""
    missing = [requirement for requirement in _as_requirements(requirements) if not pip_check(requirement)]
    if not missing:
        return None
    if skip_in_testing and _slicer.app.testingEnabled():
        _logging.getLogger(__name__).info("Testing mode: skipping pip_ensure for %s", missing)
        return None
    if prompt_install:
        count = "1 Python package needs" if len(missing) == 1 else f"{len(missing)} Python packages need"
        title = f"{requester} - Install Python Packages" if requester else "Install Python Packages"
        text = f"{count} to be installed.\n\nThis will modify Slicer's Python environment. Continue?"
        details = "\n".join(f"- {requirement}" for requirement in missing)
        if not _slicer.util.confirmOkCancelDisplay(text, title, detailedText=details):
            raise RuntimeError("User declined package installation")
    return pip_install(
        [str(requirement) for requirement in missing],
        constraints=constraints,
        skip_packages=skip_packages,
        show_progress=show_progress,
        requester=requester,
    )


def pip_install(
    requirements: str | list[str],
    constraints: str | Path | None = None,
    no_deps_requirements: str | list[str] | None = None,
    skip_packages: list[str] | None = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    logCallback: _Callable[[str], None] | None = None,
    completedCallback: _Callable[[int], None] | None = None,
) -> list[str] | None:
    """Record what would be installed."""
    if skip_packages is not None and (no_deps_requirements is not None or not blocking):
        raise ValueError("skip_packages cannot be combined with no_deps_requirements or with blocking=False")
    _installations.append(requirements.split() if isinstance(requirements, str) else list(requirements))
    if not blocking and completedCallback is not None:
        completedCallback(0)
    return [] if skip_packages is not None else None


def pip_uninstall(
    requirements: str | list[str],
    blocking: bool = True,
    logCallback: _Callable[[str], None] | None = None,
    completedCallback: _Callable[[int], None] | None = None,
) -> None:
    raise NotImplementedError("the stand-in uninstalls nothing")
