"""``slicer.app``: a stand-in for qSlicerApplication."""

from __future__ import annotations

import logging
import os
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import slicer
from PySide6.QtCore import Property, QObject, QProcessEnvironment, QSettings, Signal
from PySide6.QtWidgets import QApplication, QWidget

from . import event_loop
from .io_manager import qSlicerIOManager
from .modules import qSlicerModuleManager
from .pythonqt.backings import register_backing
from .pythonqt.table import versions

logger = logging.getLogger(__name__)

# What slicer.app inherits from QApplication and the stand-in hands on unchanged.
INHERITED = frozenset(
    [
        "activeModalWidget",
        "activePopupWidget",
        "activeWindow",
        "allWidgets",
        "applicationDirPath",
        "applicationFilePath",
        "applicationPid",
        "arguments",
        "clipboard",
        "desktopFileName",
        "focusWidget",
        "font",
        "hasPendingEvents",
        "isRightToLeft",
        "isLeftToRight",
        "keyboardModifiers",
        "mouseButtons",
        "overrideCursor",
        "palette",
        "restoreOverrideCursor",
        "screens",
        "sendPostedEvents",
        "setFont",
        "setOverrideCursor",
        "setPalette",
        "changeOverrideCursor",
        "style",
        "styleHints",
        "topLevelWidgets",
        "translate",
        "widgetAt",
    ]
)


class qSlicerApplication(QObject):
    """The application object. Names that the stand-in lacks raise NotImplementedError in the wrapper."""

    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)
    renderPaused = Signal(bool)
    aboutToQuit = Signal()
    usageEventLogged = Signal(str, str)
    SIGNALS: ClassVar[dict[str, str]] = {
        "startupCompleted()": "startupCompleted",
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged",
        "renderPaused(bool)": "renderPaused",
        "aboutToQuit()": "aboutToQuit",
        "usageEventLogged(QString,QString)": "usageEventLogged",
    }

    def __init__(self, home: Path) -> None:
        super().__init__()
        self._home = home
        self._main_window: QWidget | None = None
        self._testing = False
        self._pauses = 0
        self._scene = slicer.vtkMRMLScene()
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._modules = qSlicerModuleManager()
        self._io = qSlicerIOManager()
        self._layout_manager: QObject | None = None
        self._settings: QSettings | None = None
        self._revision_settings: QSettings | None = None
        self._environment = dict(os.environ)

    def __getattr__(self, name: str) -> Any:
        if name in INHERITED:
            return getattr(QApplication.instance(), name)
        raise AttributeError(name)

    # ---- the scene and its logics ----------------------------------------------------------------------------------
    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._logic

    def moduleLogic(self, name: str) -> Any:
        module = self._modules.module(name)
        return module.logic() if module is not None else None

    def moduleManager(self) -> QObject:
        return self._modules

    def coreIOManager(self) -> QObject:
        return self._io

    ioManager = coreIOManager

    def layoutManager(self) -> QObject | None:
        """None without a main window, as in the application started with --no-main-window."""
        return self._layout_manager

    def setLayoutManager(self, manager: QObject | None) -> None:
        self._layout_manager = manager

    def setRenderPaused(self, pause: bool) -> None:
        if pause:
            self.pauseRender()
        else:
            self.resumeRender()

    def pauseRender(self) -> None:
        self._pauses += 1
        if self._pauses == 1:
            self.renderPaused.emit(True)

    def resumeRender(self) -> None:
        self._pauses = max(0, self._pauses - 1)
        if self._pauses == 0:
            self.renderPaused.emit(False)

    # ---- how it was started ------------------------------------------------------------------------------------------
    def testingEnabled(self) -> bool:
        return self._testing

    def commandOptions(self) -> SimpleNamespace:
        return SimpleNamespace(noMainWindow=self._main_window is None, isTestingEnabled=self._testing)

    def startupEnvironment(self) -> QProcessEnvironment:
        environment = QProcessEnvironment()
        for name, value in self._environment.items():
            environment.insert(name, value)
        return environment

    def environment(self) -> QProcessEnvironment:
        return QProcessEnvironment.systemEnvironment()

    def setEnvironmentVariable(self, name: str, value: str) -> None:
        os.environ[name] = value

    # ---- settings ----------------------------------------------------------------------------------------------------
    def userSettings(self) -> QSettings:
        if self._settings is None:
            self._settings = QSettings()
        return self._settings

    settings = userSettings

    def revisionUserSettings(self) -> QSettings:
        if self._revision_settings is None:
            self._revision_settings = QSettings(str(self._home / "revision.ini"), QSettings.Format.IniFormat)
        return self._revision_settings

    # ---- events ------------------------------------------------------------------------------------------------------
    def processEvents(self) -> None:
        event_loop.process_events()

    def exit(self, status: int = 0) -> None:
        message = f"the code under test quit the application with status {status}"
        raise SystemExit(message)

    def quit(self) -> None:
        self.exit()

    def restart(self) -> None:
        raise SystemExit("the code under test restarted the application")

    def confirmRestart(self, reason: str = "") -> None:
        if slicer.util.confirmOkCancelDisplay(reason or "Restart the application?"):
            self.restart()

    def logUsageEvent(self, component: str, event: str) -> None:
        self.usageEventLogged.emit(component, event)

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}/user_guide/modules/{name.lower()}.html"

    # ---- what it is --------------------------------------------------------------------------------------------------
    applicationName = Property(str, lambda _self: "Slicer")
    mainApplicationName = mainApplicationDisplayName = applicationDisplayName = applicationName
    applicationVersion = Property(str, lambda _self: versions()["slicer"])
    majorVersion = Property(int, lambda _self: int(versions()["slicer"].split(".")[0]))
    minorVersion = Property(int, lambda _self: int(versions()["slicer"].split(".")[1]))
    mainApplicationMajorVersion, mainApplicationMinorVersion = majorVersion, minorVersion
    releaseType = Property(str, lambda _self: "Preview")
    revision = Property(str, lambda _self: "stand-in")
    os = Property(str, lambda _self: {"Darwin": "macosx", "Windows": "win"}.get(platform.system(), "linux"))
    arch = Property(str, lambda _self: platform.machine())
    platform = Property(str, lambda self: f"{self.os}-{self.arch}")
    isInstalled = Property(bool, lambda _self: False)
    documentationBaseUrl = Property(str, lambda _self: "https://slicer.readthedocs.io/en/latest")
    slicerHome = Property(str, lambda self: str(self._home))
    slicerSharePath = Property(str, lambda _self: "share")
    startupWorkingPath = Property(str, lambda _self: str(Path.cwd()))
    temporaryPath = Property(str, lambda self: str(self._home / "tmp"))
    cachePath = Property(str, lambda self: str(self._home / "cache"))
    extensionsInstallPath = Property(str, lambda self: str(self._home / "extensions"))
    defaultScenePath = Property(str, lambda self: str(self._home / "documents"))
    slicerUserSettingsFilePath = Property(str, lambda self: self.userSettings().fileName())


register_backing(qSlicerApplication)
