"""The widgets about segments and tables show real nodes."""

from __future__ import annotations

import numpy as np
import pytest
import slicer


@pytest.fixture
def a_segmentation(the_application):
    """A segmentation with two segments, "heart" and "liver", of a few voxels each."""
    volume = slicer.util.addVolumeFromArray(np.zeros((6, 7, 8), np.int16))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for index, name in enumerate(("heart", "liver")):
        identifier = node.GetSegmentation().AddEmptySegment(name, name, (1, index, 0))
        mask = np.zeros((6, 7, 8), np.uint8)
        mask[1:4, 1:4, 1 + 3 * index : 4 + 3 * index] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, identifier, volume)
    return node


def test_the_table_lists_the_segments_and_follows_them(a_segmentation):
    view, got = slicer.qMRMLSegmentsTableView(), []
    view.setMRMLScene(slicer.mrmlScene)
    view.setSegmentationNode(a_segmentation)
    assert view.segmentCount == 2
    assert view.displayedSegmentIDs() == ("heart", "liver")
    assert [view.tableWidget().item(row, 3).text() for row in range(2)] == ["heart", "liver"]
    view.connect("selectionChanged(QItemSelection,QItemSelection)", lambda: got.append(view.selectedSegmentIDs()))
    view.setSelectedSegmentIDs(["liver"])
    assert got[-1] == ("liver",)
    a_segmentation.GetSegmentation().GetSegment("heart").SetName("left heart")
    a_segmentation.GetSegmentation().RemoveSegment("liver")
    assert view.segmentCount == 1
    assert view.tableWidget().item(0, 3).text() == "left heart"
    assert view.selectedSegmentIDs() == ()
    view.setSegmentationNode(None)
    assert view.segmentCount == 0


def test_the_3d_button_makes_and_removes_the_surface(a_segmentation):
    button = slicer.qMRMLSegmentationShow3DButton()
    assert not button.enabled
    button.setSegmentationNode(a_segmentation)
    assert button.enabled
    assert not button.checked
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    button.click()
    assert a_segmentation.GetSegmentation().ContainsRepresentation(surface)
    assert a_segmentation.GetSegmentation().GetSegment("heart").GetRepresentation(surface).GetNumberOfPoints() > 0
    assert a_segmentation.GetDisplayNode().GetPreferredDisplayRepresentationName3D() == surface
    button.click()
    assert not a_segmentation.GetSegmentation().ContainsRepresentation(surface)
    a_segmentation.CreateClosedSurfaceRepresentation()
    assert button.checked
    button.locked = True
    assert not button.enabled


def test_the_table_view_shows_the_cells_of_its_node(the_application):
    from PySide6.QtCore import Qt

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    view = slicer.qMRMLTableView()
    view.setMRMLTableNode(node)
    model = view._cpp.model()
    assert model.rowCount() == 0
    slicer.util.updateTableFromArray(node, (np.array([1.5, 2.5]),), ("Volume",))
    assert view.mrmlTableNode() is node
    assert model.rowCount() == 2
    assert model.headerData(0, Qt.Orientation.Horizontal) == "Volume"
    assert model.data(model.index(1, 0)) == "2.5"
