"""The effect MedSeg of the Segment Editor: wiring between the editor and ``medseg``."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("MedSegLib") is None:
    # In a source checkout the panel's parts lie in the folder of the other module; installed, in the same one.
    sys.path.append(str(Path(__file__).resolve().parents[2] / "MedSeg"))

# The class and not its file: Slicer looks for it by this name here, and would load the file alone, without a package,
# if it did not find it.
from SegmentEditorMedSegLib.SegmentEditorEffect import SegmentEditorEffect

__all__ = ["SegmentEditorEffect"]
