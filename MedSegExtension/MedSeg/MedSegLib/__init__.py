"""The parts of the panel MedSeg: wiring between Slicer's widgets and nodes on one side and ``medseg`` on the other."""

import importlib.util
import sys
from pathlib import Path


def makeMedSegImportable() -> None:
    """Let ``import medseg`` find the copy that belongs to this panel.

    An installed extension has it beside the module's file. In a source checkout it lies in ``Logic``, two folders up;
    it is put first on the search path, so that a checkout is never mixed with another copy that pip installed.
    """
    moduleFolder = Path(__file__).resolve().parents[1]
    for folder in (moduleFolder, moduleFolder.parents[1] / "Logic"):
        if (folder / "medseg" / "__init__.py").is_file():
            found = importlib.util.find_spec("medseg")
            if found is None or found.origin is None or Path(found.origin).resolve().parents[1] != folder:
                sys.path.insert(0, str(folder))
                importlib.invalidate_caches()
            return


makeMedSegImportable()
