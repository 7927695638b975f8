"""The claims of the papers, each a small experiment that can fail: ``medseg bench claims NAME``.

A claim is a module of this folder with a function

    run(*, quick: bool, seeds: int, threads: int, data: Path | None, progress: Progress) -> ClaimReport

whose name is the claim's with ``_`` for ``-``, and whose docstring's first line says what is claimed.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from benchmarks.claims.report import ClaimReport


def available() -> dict[str, str]:
    """Return the claims that are here, by name, with one line on each. Imports none of them."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            lines = (ast.get_docstring(tree) or "").splitlines()
            found[path.stem.replace("_", "-")] = lines[0] if lines else ""
    return found


def run_claim(
    name: str,
    *,
    quick: bool = False,
    seeds: int = 3,
    threads: int = 2,
    data: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> ClaimReport:
    """Run the claim ``name`` and return its report.

    Parameters
    ----------
    quick
        Seconds instead of minutes: shows that the machinery runs, and nothing about the claim.
    seeds
        How many times every network is trained.
    threads
        Threads of the network's computations.
    data
        Folder of real volumes; a claim that needs some and has none does the rest and says so in its notes.
    progress
        Told how far the experiment is.
    """
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return module.run(quick=quick, seeds=seeds, threads=threads, data=data, progress=progress)
