"""MRML nodes to volumes and results to MRML nodes.

The functions take nodes and scenes as arguments and use only ``vtkMRML*`` and ``vtkSlicer*Logic`` classes, so they run
in 3D Slicer and in pip's ``slicer-core`` alike. Nothing of VTK or Slicer is imported before a function is called. All
of them belong on the main thread, as everything that touches MRML does.
"""

from medseg.mrml.files import write_segmentation
from medseg.mrml.hierarchy import place_beside
from medseg.mrml.label_reading import labelmap_from_segmentation
from medseg.mrml.labelmaps import label_values
from medseg.mrml.segmentations import create_closed_surface, segmentation_to_node
from medseg.mrml.tables import statistics_to_table
from medseg.mrml.thick import agreement_to_table, drawn_labels, make_thick_copy
from medseg.mrml.transforms import transform_from_node, transform_to_node
from medseg.mrml.volumes import geometry_from_node, volume_from_node, volume_to_node

__all__ = [
    "agreement_to_table",
    "create_closed_surface",
    "drawn_labels",
    "geometry_from_node",
    "label_values",
    "labelmap_from_segmentation",
    "make_thick_copy",
    "place_beside",
    "segmentation_to_node",
    "statistics_to_table",
    "transform_from_node",
    "transform_to_node",
    "volume_from_node",
    "volume_to_node",
    "write_segmentation",
]
