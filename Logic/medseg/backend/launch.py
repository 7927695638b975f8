"""Run a module of this copy of MedSeg in whatever Python starts this file: ``python launch.py medseg.backend.worker``.

The package ``medseg`` is taken from the folder of this file and nothing else is: putting its parent folder on the
search path would offer a foreign Python the numpy and torch that lie beside it for another version of Python, or all
of Slicer's scripted modules.
"""

# ruff: noqa: PTH100, PTH118, PTH120 - pathlib would be one more import at every start

from __future__ import annotations

import importlib
import importlib.util
import os
import sys


def load_this_medseg() -> None:
    """Put the package ``medseg`` that this file belongs to into ``sys.modules``, without touching the search path."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location(
        "medseg",
        os.path.join(package, "__init__.py"),
        submodule_search_locations=[package],
    )
    if spec is None or spec.loader is None:
        sys.exit("medseg is not complete: its __init__.py is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules["medseg"] = module
    spec.loader.exec_module(module)


if __name__ == "__mp_main__":
    # A process that multiprocessing starts anew (loaders of training data where processes are not forked) runs this
    # file first, and what it is handed then belongs to this copy of medseg.
    load_this_medseg()

if __name__ == "__main__":
    # Python put the folder of this file first; its other files must not hide packages of the same name.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    name = sys.argv.pop(1)
    load_this_medseg()
    importlib.import_module(name).main(sys.argv[1:])
