"""A result as a file, written by Slicer's own writer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import WriteError
from medseg.files import atomic_path

if TYPE_CHECKING:
    from medseg.segmentation import SegmentationResult

_ENDING = ".seg.nrrd"


def write_segmentation(result: SegmentationResult, path: str | Path) -> None:
    """Write a result as Slicer's segmentation file (``.seg.nrrd``), whole or not at all.

    Slicer's own storage node writes it where ``slicer`` can be imported; elsewhere
    :func:`medseg.segmentation.seg_nrrd.write_seg_nrrd` does, and both load the same. No scene of the user is touched.

    Raises
    ------
    WriteError
        When the name does not end in ``.seg.nrrd`` or the file cannot be written; what stood there is untouched.
    """
    path = Path(path)
    if not path.name.lower().endswith(_ENDING):
        raise WriteError(
            f"{path} does not end in {_ENDING}.",
            advice="Give the file that ending: Slicer tells a segmentation from an image by it.",
        )
    if importlib.util.find_spec("slicer") is None:
        from medseg.segmentation.seg_nrrd import write_seg_nrrd

        write_seg_nrrd(result, path)
        return

    import slicer

    from medseg.mrml.segmentations import segmentation_to_node

    scene = slicer.vtkMRMLScene()
    node = segmentation_to_node(result, None, scene)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    with atomic_path(path) as temporary:
        storage.SetFileName(str(temporary))
        if not storage.WriteData(node) or not temporary.is_file():
            raise WriteError(
                f"{path} could not be written.", advice="Check the free space on the disk or choose another folder."
            )
    scene.Clear(1)
