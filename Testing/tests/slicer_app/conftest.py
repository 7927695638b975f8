"""A small scripted module, and the application to load it into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("PySide6", reason="the stand-in needs Qt")
pytest.importorskip("slicer", reason="the stand-in needs slicer-core")

MODULE = """
import enum
import pathlib
from typing import Annotated

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper, parameterPack
from slicer.util import VTKObservationMixin


class Mode(enum.Enum):
    QUICK = "quick"
    SLOW = "slow"


@parameterPack
class Corner:
    x: Annotated[int, WithinRange(0, 10)] = 1
    y: int = 2


@parameterNodeWrapper
class SmallParameterNode:
    inputVolume: slicer.vtkMRMLScalarVolumeNode
    threshold: Annotated[float, WithinRange(-100, 200)] = 100
    invert: bool = False
    mode: Mode
    place: pathlib.Path = pathlib.Path("here")
    words: list[str]
    corner: Corner
    maybe: int | None
    search: str


class Small(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Small")
        self.parent.categories = ["Examples"]
        self.started = False
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self):
        self.started = True


class SmallWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.calls = []
        self._parameterNode = None
        self._tag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Small.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = SmallLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.initializeParameterNode()
        self.calls.append("setup")

    def enter(self):
        self.calls.append("enter")
        self.initializeParameterNode()

    def exit(self):
        self.calls.append("exit")
        self.setParameterNode(None)

    def cleanup(self):
        self.calls.append("cleanup")
        self.removeObservers()

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, node):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._tag)
        self._parameterNode = node
        if node:
            named = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
            self._tag = node.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def onApplyButton(self):
        with slicer.util.tryWithErrorDisplay("It did not work."):
            if not self.ui.inputSelector.currentNode():
                raise ValueError("there is no volume")
            self.logic.process(self._parameterNode)


class SmallLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return SmallParameterNode(super().getParameterNode())

    def process(self, parameters):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Result")
        node.SetNodeReferenceID("source", parameters.inputVolume.GetID())


class SmallTest(ScriptedLoadableModuleTest):
    ran = []

    def setUp(self):
        slicer.mrmlScene.Clear()

    def test_one(self):
        self.delayDisplay("one")
        SmallTest.ran.append("one")

    def test_two(self):
        SmallTest.ran.append("two")
"""

EFFECT = """
import qt
import slicer
from SegmentEditorEffects import *


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
    answers = {}

    def __init__(self, scriptedEffect):
        scriptedEffect.name = "Test"
        scriptedEffect.title = "A test"
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.calls = []

    def note(self, *what):
        self.calls.append(what if len(what) > 1 else what[0])
        answer = self.answers.get(what[0])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def clone(self):
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        if self.note("clone"):
            return None
        clone = effects.qSlicerSegmentEditorScriptedEffect(None)
        clone.setPythonSource(__file__)
        return clone

    def helpText(self):
        return "What it does."

    def setupOptionsFrame(self):
        self.note("setupOptionsFrame")
        self.button = qt.QPushButton("Apply")
        self.scriptedEffect.addOptionsWidget(self.button)
        self.label = self.scriptedEffect.addLabeledOptionsWidget("How much:", slicer.qMRMLSliderWidget())

    def setMRMLDefaults(self):
        self.note("setMRMLDefaults")
        self.scriptedEffect.setParameterDefault("Amount", 2.5)

    def activate(self):
        self.note("activate", self.scriptedEffect.active())

    def deactivate(self):
        self.note("deactivate", self.scriptedEffect.active())

    def updateGUIFromMRML(self):
        self.note("updateGUIFromMRML")

    def sourceVolumeNodeChanged(self):
        self.note("sourceVolumeNodeChanged")

    def layoutChanged(self):
        self.note("layoutChanged")

    def createCursor(self, widget):
        return qt.QCursor()

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        where = callerInteractor.GetEventPosition()
        self.note("event", eventId, where, callerInteractor.GetKeySym(), viewWidget.className())
        return self.answers.get("abort", False)

    def processViewNodeEvents(self, callerViewNode, eventId, viewWidget):
        self.note("view", callerViewNode.GetClassName(), eventId)

    def cleanup(self):
        self.note("cleanup")
"""

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0">
 <class>Small</class>
 <widget class="qMRMLWidget" name="Small">
  <layout class="QVBoxLayout" name="verticalLayout">
   <item>
    <widget class="ctkCollapsibleButton" name="inputsButton">
     <property name="text"><string>Inputs</string></property>
     <layout class="QFormLayout" name="formLayout">
      <item row="0" column="0">
       <widget class="QLabel" name="label"><property name="text"><string>Volume:</string></property></widget>
      </item>
      <item row="0" column="1">
       <widget class="qMRMLNodeComboBox" name="inputSelector">
        <property name="nodeTypes">
         <stringlist notr="true"><string>vtkMRMLScalarVolumeNode</string></stringlist>
        </property>
        <property name="addEnabled"><bool>false</bool></property>
        <property name="removeEnabled"><bool>false</bool></property>
        <property name="noneEnabled"><bool>true</bool></property>
        <property name="SlicerParameterName" stdset="0"><string>inputVolume</string></property>
       </widget>
      </item>
      <item row="1" column="1">
       <widget class="ctkSliderWidget" name="thresholdSlider">
        <property name="singleStep"><double>0.1</double></property>
        <property name="SlicerParameterName" stdset="0"><string>threshold</string></property>
       </widget>
      </item>
      <item row="2" column="1">
       <widget class="QCheckBox" name="invertBox">
        <property name="SlicerParameterName" stdset="0"><string>invert</string></property>
       </widget>
      </item>
      <item row="3" column="1">
       <widget class="QComboBox" name="modeBox">
        <property name="SlicerParameterName" stdset="0"><string>mode</string></property>
       </widget>
      </item>
      <item row="4" column="1">
       <widget class="ctkPathLineEdit" name="placeEdit">
        <property name="SlicerParameterName" stdset="0"><string>place</string></property>
       </widget>
      </item>
      <item row="5" column="1">
       <widget class="QSpinBox" name="cornerBox">
        <property name="SlicerParameterName" stdset="0"><string>corner.x</string></property>
       </widget>
      </item>
     </layout>
    </widget>
   </item>
   <item>
    <widget class="QPushButton" name="applyButton"><property name="text"><string>Apply</string></property></widget>
   </item>
  </layout>
 </widget>
 <customwidgets>
  <customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><header>ctkCollapsibleButton.h</header>
   <container>1</container></customwidget>
  <customwidget><class>ctkPathLineEdit</class><extends>QWidget</extends><header>ctkPathLineEdit.h</header></customwidget>
  <customwidget><class>ctkSliderWidget</class><extends>QWidget</extends><header>ctkSliderWidget.h</header></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>qMRMLNodeComboBox.h</header></customwidget>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header><container>1</container>
  </customwidget>
 </customwidgets>
 <resources/>
 <connections>
  <connection>
   <sender>Small</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>inputSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>
   <hints><hint type="sourcelabel"><x>1</x><y>1</y></hint><hint type="destinationlabel"><x>1</x><y>1</y></hint></hints>
  </connection>
 </connections>
</ui>
"""


@pytest.fixture
def the_application() -> Iterator:
    from slicer_app import SlicerApplication

    application = SlicerApplication.instance()
    application.takeSlotErrors()
    yield application
    application.reset()


@pytest.fixture
def a_module_file(tmp_path: Path) -> Path:
    folder = tmp_path / "Small"
    (folder / "Resources" / "UI").mkdir(parents=True)
    (folder / "Small.py").write_text(MODULE, encoding="utf-8")
    (folder / "Resources" / "UI" / "Small.ui").write_text(UI, encoding="utf-8")
    return folder / "Small.py"


@pytest.fixture
def a_loaded_module(the_application, a_module_file: Path):
    return the_application.loadModule(a_module_file)


@pytest.fixture
def a_volume(the_application):
    import slicer

    def make(name: str = "Heart"):
        return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)

    return make


@pytest.fixture
def an_effect_file(the_application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an effect in a package that can be imported; ``answers`` of its class says what its methods do."""
    folder = tmp_path / "SegmentEditorTestLib"
    folder.mkdir()
    (folder / "SegmentEditorEffect.py").write_text(EFFECT, encoding="utf-8")
    (folder / "__init__.py").write_text("from .SegmentEditorEffect import SegmentEditorEffect\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder / "SegmentEditorEffect.py"


@pytest.fixture
def a_registered_effect(an_effect_file: Path):
    """The registered instance, as a module's registerEditorEffect makes it."""
    import importlib

    import slicer

    importlib.import_module("SegmentEditorTestLib")
    effect = slicer.qSlicerSegmentEditorScriptedEffect(None)
    assert effect.setPythonSource(str(an_effect_file))
    effect.self().register()
    return effect


@pytest.fixture
def a_segmentation(the_application):
    """A segmentation of a volume of 4 x 5 x 6 voxels with the numbers 0 to 119, with the empty segments A, B and C."""
    import numpy as np
    import slicer

    volume = slicer.util.addVolumeFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name in "ABC":
        node.GetSegmentation().AddEmptySegment(name, name)
    return node


@pytest.fixture
def an_editor(a_registered_effect, a_segmentation):
    """The editor of the module SegmentEditor with the segmentation selected; no effect is active."""
    import slicer

    editor = slicer.util.getModuleWidget("SegmentEditor").editor
    editor.setSegmentationNode(a_segmentation)
    return editor


@pytest.fixture
def the_active_effect(an_editor):
    an_editor.setActiveEffectByName("Test")
    return an_editor.activeEffect()
