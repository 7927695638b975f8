"""``slicer.modules`` and the objects in it: core modules with their real logics, and scripted modules from a file."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import slicer
from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QVBoxLayout, QWidget

from .pythonqt.backings import register_backing
from .pythonqt.wrapper import wrap
from .widgets.mrml import SCENE_CHANGED, _KnowsScene
from .widgets.properties import stored

logger = logging.getLogger(__name__)

# Module name -> class of its logic in slicer-core. The other modules of the list have no logic here.
LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}


class _Module(QObject):
    """What loadable and scripted modules share."""

    name = stored(str, "name", "")
    title = stored(str, "title", "")
    path = stored(str, "path", "")
    helpText = stored(str, "help_text", "")
    acknowledgementText = stored(str, "acknowledgement_text", "")
    hidden = stored(bool, "hidden", False)
    index = stored(int, "index", -1)
    isBuiltIn = Property(bool, lambda _self: False)
    widgetRepresentationCreationEnabled = stored(bool, "widget_enabled", True)
    categories = stored("QStringList", "categories", [])
    contributors = stored("QStringList", "contributors", [])
    dependencies = stored("QStringList", "dependencies", [])
    associatedNodeTypes = stored("QStringList", "node_types", [])
    icon = stored(QIcon, "icon", QIcon())

    def __init__(self) -> None:
        super().__init__()
        self._logic: Any = None
        self._widget: Any = None

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def _attach(self, logic: Any) -> Any:
        if hasattr(logic, "SetModuleShareDirectory"):
            folder = Path(slicer.app.slicerHome) / slicer.app.slicerSharePath / "qt-loadable-modules" / self.name
            logic.SetModuleShareDirectory(str(folder))
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        logic.SetMRMLScene(slicer.mrmlScene)
        return logic


class qSlicerLoadableModule(_Module):
    """A core module: a real logic and no panel."""

    def logic(self) -> Any:
        if self._logic is None:
            if self.name not in LOGICS:
                message = f"slicer.modules.{self.name.lower()}.logic() exists in 3D Slicer, but not in the stand-in"
                raise NotImplementedError(message)
            self._logic = self._attach(getattr(slicer, LOGICS[self.name])())
        return self._logic

    def widgetRepresentation(self) -> Any:
        message = f"the panel of {self.name} exists in 3D Slicer, but the stand-in does not offer it"
        raise NotImplementedError(message)


class qSlicerScriptedLoadableModuleWidget(_KnowsScene, QWidget):
    """The widget around a scripted panel; ``self()`` is the object of the module's own widget class."""

    mrmlSceneChanged = Signal(object)
    SIGNALS: ClassVar[dict[str, str]] = SCENE_CHANGED

    def __init__(self, module: qSlicerScriptedLoadableModule) -> None:
        super().__init__()
        QVBoxLayout(self)
        self._module = module
        self._python: Any = None
        self._entered = False

    def _create(self) -> None:
        name = f"{self._module.name}Widget"
        self._python = getattr(sys.modules[self._module.name], name)(wrap(self))
        setattr(slicer.modules, name, self._python)

    def _setup(self) -> None:
        self.setObjectName(f"{self._module.name}ModuleWidget")
        self.setWindowTitle(self._module.title)
        self._python.setup()

    def self(self) -> Any:
        return self._python

    def module(self) -> QObject:
        return self._module

    def moduleName(self) -> str:
        return self._module.name

    def isEntered(self) -> bool:
        return self._entered

    def enter(self) -> None:
        self._entered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        self._entered = False
        if hasattr(self._python, "exit"):
            self._python.exit()

    def reload(self) -> None:
        self._create()
        self._setup()

    def setEditedNode(self, node: Any, role: str = "", context: str = "") -> bool:
        if hasattr(self._python, "setEditedNode"):
            return bool(self._python.setEditedNode(node, role, context))
        return False

    def nodeEditable(self, node: Any) -> float:
        return float(self._python.nodeEditable(node)) if hasattr(self._python, "nodeEditable") else 0.0


class qSlicerScriptedLoadableModule(_Module):
    """A module written in Python, loaded from its file as the application does."""

    def _load(self, path: Path) -> Any:
        """Run the file, make the module object, register it. Returns the object of the module's own class."""
        self.path, self.name = str(path), path.stem
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        spec = importlib.util.spec_from_file_location(self.name, path)
        assert spec is not None
        assert spec.loader is not None
        source = importlib.util.module_from_spec(spec)
        sys.modules[self.name] = source
        spec.loader.exec_module(source)
        instance = getattr(source, self.name)(wrap(self))
        setattr(slicer.modules, f"{self.name}Instance", instance)
        setattr(slicer.modules, self.name.lower(), wrap(self))
        setattr(slicer.moduleNames, self.name, self.name)
        if not hasattr(source, f"{self.name}Widget"):
            self.widgetRepresentationCreationEnabled = False
        if hasattr(instance, "setup"):
            instance.setup()
        return instance

    def logic(self) -> Any:
        if self._logic is None:
            self._logic = self._attach(slicer.vtkSlicerScriptedLoadableModuleLogic())
        return self._logic

    def createNewWidgetRepresentation(self) -> Any:
        if not self.widgetRepresentationCreationEnabled:
            return None
        widget = qSlicerScriptedLoadableModuleWidget(self)
        widget._create()
        widget._setup()
        widget.setMRMLScene(slicer.mrmlScene)
        return widget

    def widgetRepresentation(self) -> Any:
        if self._widget is None:
            self._widget = self.createNewWidgetRepresentation()
        return self._widget

    def _close_panel(self) -> None:
        """Destroy the panel, if there is one, as the end of the application does; the module stays."""
        if self._widget is None:
            return
        if self._widget.isEntered():
            self._widget.exit()
        manager = slicer.app.moduleManager()._cpp
        manager._remove(self)
        manager._add(self)
        self._widget.deleteLater()
        self._widget = None
        vars(slicer.modules).pop(f"{self.name}Widget", None)

    extensions = stored("QVariantMap", "extensions", {})


class qSlicerModuleFactoryManager(QObject):
    """The names of the modules that are loaded."""

    def __init__(self, manager: qSlicerModuleManager) -> None:
        super().__init__(manager)
        self._manager = manager

    def loadedModuleNames(self) -> list[str]:
        return self._manager.modulesNames()

    def isLoaded(self, name: str) -> bool:
        return name in self._manager.modulesNames()

    def loadedModule(self, name: str) -> Any:
        return self._manager.module(name)

    instantiatedModuleNames = registeredModuleNames = loadedModuleNames


class qSlicerModuleManager(QObject):
    """Finds modules by name and says when one comes or goes."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)
    SIGNALS: ClassVar[dict[str, str]] = {
        "moduleLoaded(QString)": "moduleLoaded",
        "moduleAboutToBeUnloaded(QString)": "moduleAboutToBeUnloaded",
    }

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, _Module] = {}
        self._factory = qSlicerModuleFactoryManager(self)

    def factoryManager(self) -> qSlicerModuleFactoryManager:
        return self._factory

    def modulesNames(self) -> list[str]:
        return sorted(self._modules)

    def module(self, name: str) -> Any:
        return self._modules.get(name)

    def _add(self, module: _Module) -> None:
        self._modules[module.name] = module
        self.moduleLoaded.emit(module.name)

    def _remove(self, module: _Module) -> None:
        self.moduleAboutToBeUnloaded.emit(module.name)
        del self._modules[module.name]


class LoadedModule:
    """A scripted module in the hands of a test."""

    def __init__(
        self, module: qSlicerScriptedLoadableModule, instance: Any, forget: Callable[[LoadedModule], None]
    ) -> None:
        self._module = module
        self._forget = forget
        self.instance = instance
        self.name: str = module.name

    @property
    def source(self) -> Any:
        """The Python module of the file."""
        return sys.modules[self.name]

    @property
    def representation(self) -> qSlicerScriptedLoadableModuleWidget:
        return self._module.widgetRepresentation()

    @property
    def widget(self) -> Any:
        """The object of the module's own widget class, set up and entered."""
        if not self.representation.isEntered():
            self.enter()
        return self.representation.self()

    def enter(self) -> None:
        """The user opens the panel: it is shown, then ``enter`` is called."""
        self.representation.show()
        if not self.representation.isEntered():
            self.representation.enter()

    def exit(self) -> None:
        """The user goes to another module."""
        if self.representation.isEntered():
            self.representation.exit()
        self.representation.hide()

    def unload(self) -> None:
        """The application ends: exit, cleanup, and the panel is destroyed."""
        if self._module._widget is not None:
            self.exit()
        slicer.app.moduleManager()._cpp._remove(self._module)
        if self._module._widget is not None:
            self._module._widget.deleteLater()
            self._module._widget = None
        for name in (f"{self.name}Instance", f"{self.name}Widget", self.name.lower()):
            vars(slicer.modules).pop(name, None)
        slicer.selfTests.pop(self.name, None)
        folder = str(Path(self._module.path).parent)
        beneath = [
            n for n, m in sys.modules.items() if str(getattr(m, "__file__", None) or "").startswith(f"{folder}/")
        ]
        for name in beneath:
            del sys.modules[name]
        if folder in sys.path:
            sys.path.remove(folder)
        self._forget(self)

    def runTest(self) -> None:
        """Run the module's own test case, as slicer.selfTests does."""
        slicer.selfTests[self.name]()


def core_module(name: str) -> qSlicerLoadableModule:
    module = qSlicerLoadableModule()
    module.name, module.title, module.path = name, name, f"{slicer.app.slicerHome}/lib/qSlicer{name}Module.so"
    return module


register_backing(
    qSlicerLoadableModule,
    qSlicerScriptedLoadableModule,
    qSlicerScriptedLoadableModuleWidget,
    qSlicerModuleManager,
    qSlicerModuleFactoryManager,
)
