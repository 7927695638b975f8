"""Registers the effect MedSeg with the Segment Editor. No panel of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest


class SegmentEditorMedSeg(ScriptedLoadableModule):
    """What Slicer lists; hidden, since the effect is found in the Segment Editor."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("SegmentEditorMedSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "MedSeg"]
        self.parent.contributors = ["The MedSeg developers"]
        self.parent.hidden = True
        self.parent.helpText = _(
            "The effect MedSeg of the Segment Editor: point at what is missing or too much, and a model corrects the "
            "segment there."
        )
        self.parent.acknowledgementText = _("Developed by the MedSeg developers under the Apache License 2.0.")
        slicer.app.connect("startupCompleted()", self.registerEditorEffect)

    def registerEditorEffect(self) -> None:
        """Tell the Segment Editor of the effect."""
        registerEffect()


def registerEffect() -> None:
    """Tell the Segment Editor of the effect; does nothing when it knows it already."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    # The package first: Slicer takes the class from it then, and would load the file alone otherwise.
    import SegmentEditorMedSegLib

    source = Path(SegmentEditorMedSegLib.__file__).with_name("SegmentEditorEffect.py")
    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource(str(source).replace("\\", "/"))
    effect.self().register()


class SegmentEditorMedSegTest(ScriptedLoadableModuleTest):
    """Corrects a segment in an editor of its own, with whatever model or helper there is."""

    def setUp(self) -> None:
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all parts."""
        self.setUp()
        self.test_a_click_adds_to_the_segment_and_undo_takes_it_back()

    def test_a_click_adds_to_the_segment_and_undo_takes_it_back(self) -> None:
        """See the name."""
        from SegmentEditorMedSegLib.selfTest import clickAndUndo

        registerEffect()
        self.delayDisplay(_("A click and its undo"))
        clickAndUndo(self)
        self.delayDisplay(_("Passed"))
