"""The stand-in for the application, as a test holds it."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import stat
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
import slicer.util
from PySide6.QtCore import (
    QCoreApplication,
    QEvent,
    QLibraryInfo,
    QSettings,
    QStandardPaths,
    QtMsgType,
    qInstallMessageHandler,
)
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QApplication, QWidget

from . import (
    dialogs,
    event_loop,
    i18n,
    main_window,
    modules,
    packaging,
    parameter_nodes,
    sample_data,
    scripted_module,
    segment_editor,
    view_driver,
    widgets,
)
from .garbage import MainThreadCollector
from .pythonqt import signals
from .pythonqt.backings import backing_of, not_offered
from .pythonqt.modules import make_ctk, make_qt
from .pythonqt.table import classes, module_names
from .pythonqt.ui_loader import load_ui
from .pythonqt.wrapper import PythonQtObject, generated_class, wrap
from .slicer_object import qSlicerApplication

__all__ = ["SlicerApplication"]

# Core modules that the stand-in registers; those with a logic have the real one.
CORE_MODULES = (
    *modules.LOGICS,
    "Data",
    "SampleData",
    "SegmentStatistics",
    "VolumeRendering",
    "Welcome",
)

# Core modules that are written in Python: those that the stand-in has a panel for.
SCRIPTED_MODULES = tuple(Path(__file__).with_name("core_modules").glob("*.py"))

# How often a waiting test looks whether what it waits for has happened.
LOOK_EVERY_MS = 50


class SlotError(AssertionError):
    """An exception left a slot during a test and the test did not take it."""


def _log_qt_message(kind: QtMsgType, _context: object, text: str) -> None:
    """Qt's messages go to the log, as the application sends them to its error log."""
    levels = {
        QtMsgType.QtDebugMsg: logging.DEBUG,
        QtMsgType.QtInfoMsg: logging.INFO,
        QtMsgType.QtWarningMsg: logging.WARNING,
    }
    if "propagateSizeHints" not in text:  # what the offscreen platform says whenever a window is shown
        logging.getLogger("Qt").log(levels.get(kind, logging.ERROR), text)


class SlicerApplication:
    """One application per process: a real scene, Qt offscreen, and the modules that a scripted module imports.

    It starts like ``Slicer --no-main-window``: there is no main window and no layout manager. Nothing that it offers is
    missing in the real application; much of the real application is missing here, and asking for it raises.
    """

    _instance: SlicerApplication | None = None

    @classmethod
    def instance(cls) -> SlicerApplication:
        """The application of this process, started when first asked for."""
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    def __init__(self) -> None:
        if SlicerApplication._instance is not None:
            raise RuntimeError("there is one application per process: use SlicerApplication.instance()")
        self._home = Path(tempfile.mkdtemp(prefix="slicer-stand-in-"))
        atexit.register(shutil.rmtree, self._home, ignore_errors=True)
        for folder in ("tmp", "cache", "documents", "bin"):
            (self._home / folder).mkdir()
        self._qt = self._start_qt()
        self._collector = MainThreadCollector()
        self._loaded: dict[str, modules.LoadedModule] = {}
        self._app = qSlicerApplication(self._home)
        self._install()
        self._start_scene()

    def _start_qt(self) -> QApplication:
        QCoreApplication.setOrganizationName("NA-MIC")
        QCoreApplication.setApplicationName("Slicer")
        QStandardPaths.setTestModeEnabled(True)
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        for scope in (QSettings.Scope.UserScope, QSettings.Scope.SystemScope):
            QSettings.setPath(QSettings.Format.IniFormat, scope, str(self._home / "settings"))
        application = QApplication.instance() or QApplication(["Slicer", "--no-main-window"])
        application.setQuitOnLastWindowClosed(False)
        application.setStyle("fusion")
        application.setPalette(QPalette())
        qInstallMessageHandler(_log_qt_message)
        return application

    def _make_python_slicer(self) -> None:
        """``PythonSlicer`` on the PATH, which in Slicer is its Python without the application."""
        script = self._home / "bin" / "PythonSlicer"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        os.environ["PATH"] = f"{script.parent}{os.pathsep}{os.environ.get('PATH', '')}"

    def _install(self) -> None:
        """Put everything where ``import`` and ``slicer.`` find it. Nowhere else does the stand-in touch sys.modules."""
        self._make_python_slicer()
        sys.modules["qt"], sys.modules["ctk"] = make_qt(), make_ctk()
        slicer.app = wrap(self._app)
        slicer.mrmlScene = self._app.mrmlScene()
        slicer.selfTests = {}
        slicer.modules = types.ModuleType("slicer.modules")
        slicer.modules.__getattr__ = self._missing_module
        slicer.moduleNames = types.ModuleType("slicer.moduleNames")
        submodules = {
            "modules": slicer.modules,
            "moduleNames": slicer.moduleNames,
            "i18n": i18n,
            "packaging": packaging,
            "ScriptedLoadableModule": scripted_module,
            "parameterNodeWrapper": parameter_nodes,
        }
        for name, module in submodules.items():
            setattr(slicer, name, module)
            sys.modules[f"slicer.{name}"] = module
        sys.modules["SampleData"] = sample_data
        segment_editor.install()
        self._clean_namespace()
        slicer.__getattr__ = self._missing_class
        slicer.util.loadUI = load_ui
        slicer.util.tempDirectory = self._temp_directory
        dialogs.install()
        self._watch_observers()

    def _watch_observers(self) -> None:
        """VTK prints what its observers raise and goes on; the stand-in keeps it with what leaves the slots."""
        before = sys.excepthook

        def keep(kind: type[BaseException], error: BaseException, traceback: types.TracebackType | None) -> None:
            signals.slot_errors.append(error)
            before(kind, error, traceback)

        sys.excepthook = keep

    def _clean_namespace(self) -> None:
        """slicer-core copies the functions of slicer.util into ``slicer``; the real application does not."""
        for name in slicer.util.__all__:
            if getattr(slicer, name, None) is getattr(slicer.util, name):
                delattr(slicer, name)
        for name, facts in classes().items():
            if facts.namespace == "slicer" and backing_of(name) is not None:
                setattr(slicer, name, generated_class(name))

    def _missing_class(self, name: str) -> Any:
        facts = classes().get(name)
        if facts is not None and facts.namespace == "slicer":
            raise not_offered("slicer", name)
        message = f"module 'slicer' has no attribute '{name}'"
        raise AttributeError(message)

    def _missing_module(self, name: str) -> Any:
        if name in module_names():
            raise not_offered("slicer.modules", name)
        message = f"module 'slicer.modules' has no attribute '{name}'"
        raise AttributeError(message)

    def _temp_directory(self, key: str = "__SlicerTemp__", tempDir: Any = None, includeDateTime: bool = True) -> str:
        """In place of slicer.util.tempDirectory, which needs classes of Qt that the stand-in does not offer."""
        parent = Path(str(tempDir)) if tempDir else Path(slicer.app.temporaryPath)
        if includeDateTime:
            return tempfile.mkdtemp(prefix=key + time.strftime("%Y-%m-%d_%H+%M+%S."), dir=parent)
        (parent / key).mkdir(parents=True, exist_ok=True)
        return str(parent / key)

    def _make_share(self) -> None:
        """The terminology files that the logic reads when it starts; the stand-in's have one code each."""
        folder = self._home / "share" / "qt-loadable-modules" / "Terminologies"
        folder.mkdir(parents=True)
        code = {"CodingSchemeDesignator": "SCT", "CodeValue": "85756007", "CodeMeaning": "Tissue"}
        schema = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/{}-context-schema.json#"
        category = {**code, "showAnatomy": True, "Type": [{**code, "recommendedDisplayRGBValue": [128, 174, 128]}]}
        for file, name in (
            ("SlicerGeneralAnatomy", "3D Slicer General Anatomy list"),
            ("DICOM-Master", "DICOM master list"),
        ):
            content = {
                "SegmentationCategoryTypeContextName": f"Segmentation category and type - {name}",
                "@schema": schema.format("segment"),
                "SegmentationCodes": {"Category": [category]},
            }
            target = folder / f"SegmentationCategoryTypeModifier-{file}.term.json"
            target.write_text(json.dumps(content), encoding="utf-8")
        content = {
            "AnatomicContextName": "Anatomic codes - DICOM master list",
            "@schema": schema.format("anatomic"),
            "AnatomicCodes": {"AnatomicRegion": [code]},
        }
        (folder / "AnatomicRegionAndModifier-DICOM-Master.term.json").write_text(json.dumps(content), encoding="utf-8")
        (self._home / "share" / "ColorFiles").mkdir()

    def _start_scene(self) -> None:
        scene, logic = self._app.mrmlScene(), self._app.applicationLogic()
        self._make_share()
        logic.SetHomeDirectory(str(self._home))
        logic.SetShareDirectory("share")
        scene.RegisterNodeClass(slicer.vtkMRMLCommandLineModuleNode())
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        scene.AddNode(crosshair)
        logic.SetMRMLScene(scene)
        for name in CORE_MODULES:
            module = modules.core_module(name)
            self._app.moduleManager()._add(module)
            setattr(slicer.modules, name.lower(), wrap(module))
            setattr(slicer.moduleNames, name, name)
            if name in modules.LOGICS:
                logic.SetModuleLogic(name, module.logic())
        for path in SCRIPTED_MODULES:
            scripted = modules.qSlicerScriptedLoadableModule()
            scripted._load(path)
            self._app.moduleManager()._add(scripted)
        sample_data.install()

    # ---- for tests -------------------------------------------------------------------------------------------------
    @property
    def scene(self) -> Any:
        return self._app.mrmlScene()

    @property
    def messages(self) -> list[dialogs.Message]:
        """The dialogs since the last reset, oldest first."""
        return dialogs.dialogs.messages

    @property
    def installations(self) -> list[list[str]]:
        """What the code under test asked pip to install; the stand-in never installs."""
        return packaging._installations

    def answer(self, *answers: Any) -> None:
        """What the user will answer to the next questions: True, False, a button, a text, a path, or a function."""
        dialogs.dialogs.answers.extend(answers)

    def setTestingEnabled(self, enabled: bool) -> None:
        """As if the application had been started with ``--testing``: no dialogs, questions are confirmed."""
        self._app._testing = enabled

    def openMainWindow(self) -> None:
        """From here on as if the application had been started without ``--no-main-window``, until reset."""
        self._app.setLayoutManager(main_window.qSlicerLayoutManager(self.scene))
        self._app._main_window = main_window.qSlicerMainWindow(self._app.layoutManager())
        self._app._main_window.show()

    def _close_main_window(self) -> None:
        if self._app._main_window is not None:
            self._app._main_window.close()
            self._app._main_window.deleteLater()
            self._app._main_window = None
            self._app.setLayoutManager(None)

    def sliceView(self, name: str) -> view_driver.SliceView:
        """The hand of the user in a slice view; there are views only with a main window."""
        if self._app.layoutManager() is None:
            raise RuntimeError("there are no views without a main window: call openMainWindow() first")
        return view_driver.SliceView(self._app.layoutManager().sliceWidget(name))

    def loadModule(self, path: str | Path) -> modules.LoadedModule:
        """Load a scripted module from its file as the application does at start-up, and complete the start-up.

        Raises what the file or the module's constructor raises. A module that is loaded already is returned as it is.
        """
        path = Path(path).resolve()
        if path.stem in self._loaded:
            return self._loaded[path.stem]
        self._collector.start()
        module = modules.qSlicerScriptedLoadableModule()
        instance = module._load(path)
        self._app.moduleManager()._add(module)
        loaded = modules.LoadedModule(module, instance, lambda m: self._loaded.pop(m.name))
        self._loaded[loaded.name] = loaded
        module.logic()
        self._app.startupCompleted.emit()
        wrap(self._app).disconnect("startupCompleted()")
        return loaded

    def processEvents(self) -> None:
        """Let Qt do what is due now, deferred deletions included."""
        event_loop.process_events()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)

    def processEventsUntil(self, condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
        """Run the event loop until ``condition()`` is true; TimeoutError, with what left the slots, if it never is."""
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                errors = "; ".join(repr(e) for e in signals.slot_errors)
                message = f"still not so after {timeout_s} s" + (f"; exceptions in slots: {errors}" if errors else "")
                raise TimeoutError(message)
            event_loop.run(LOOK_EVERY_MS)
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)

    def takeSlotErrors(self) -> list[BaseException]:
        """The exceptions that left slots and observers since the last call; reset raises those that nobody took."""
        errors = list(signals.slot_errors)
        signals.slot_errors.clear()
        return errors

    def closeScene(self) -> None:
        """What the menu's "Close scene" does: singletons stay."""
        self.scene.Clear(False)
        self.processEvents()

    def screenshot(self, path: str | Path, widget: Any = None, *, width: int = 480) -> Path:
        """Draw a widget (by default the panel of the module that was loaded last) into an image file.

        The widget gets ``width`` pixels and the height that its contents want then, as in the scrolled module panel.
        """
        if widget is None:
            widget = list(self._loaded.values())[-1].representation
        widget = widget._cpp if isinstance(widget, PythonQtObject) else widget
        assert isinstance(widget, QWidget)
        widget.show()
        self.processEvents()
        for _ in range(2):  # texts know how tall they are when they have their width
            wanted = max(width, widget.minimumSizeHint().width())
            height = widget.heightForWidth(wanted) if widget.hasHeightForWidth() else widget.sizeHint().height()
            widget.resize(wanted, max(height, widget.sizeHint().height()))
            self.processEvents()
        if not widget.grab().save(str(path)):
            message = f"cannot write {path}"
            raise OSError(message)
        return Path(path)

    def reset(self) -> None:
        """As good as a new start: modules unloaded, scene empty, dialogs forgotten, settings cleared.

        Raises SlotError when an exception left a slot and the test did not take it, after everything is reset.
        """
        for path in SCRIPTED_MODULES:
            self._app.moduleManager().module(path.stem)._close_panel()
        segment_editor.reset()
        for module in list(self._loaded.values()):
            module.unload()
        self._collector.stop()
        self._app._testing = False
        self._close_main_window()
        self.processEvents()
        self.scene.Clear(True)
        self._restore_singletons()
        self._app.userSettings().clear()
        while QApplication.overrideCursor() is not None:
            QApplication.restoreOverrideCursor()
        self._app._pauses = 0
        dialogs.dialogs.clear()
        packaging._installations.clear()
        slicer.modules.sampleDataSources.clear()
        errors = self.takeSlotErrors()
        if errors:
            message = f"{len(errors)} exception(s) left slots during the test: {errors!r}"
            raise SlotError(message) from errors[0]

    def _restore_singletons(self) -> None:
        scene, logic = self._app.mrmlScene(), self._app.applicationLogic()
        logic.SetMRMLScene(None)
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        scene.AddNode(crosshair)
        logic.SetMRMLScene(scene)


assert widgets, "importing the package registers its widgets"
assert QLibraryInfo.version().majorVersion() >= 6
