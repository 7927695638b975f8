"""The section "Python environment" of the panel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSegLib.background import BackgroundTask
from MedSegLib.settings import (
    chooseInterpreter,
    pythonSetting,
    setPythonSetting,
    startupEnvironment,
    usesOwnEnvironment,
)

if TYPE_CHECKING:
    from medseg.backend.interpreter import InterpreterReport, PythonInterpreter
    from MedSegLib.background import Poller


class PythonSection:
    """Lets the user choose the Python of the worker and tells what that Python has."""

    def __init__(self, ui: Any, log: Any, poller: Poller) -> None:
        self._ui = ui
        self._log = log
        self._poller = poller
        self.lastReport: InterpreterReport | None = None
        ui.pythonPathLineEdit.currentPath = pythonSetting()
        self._showChoice()
        ui.pythonPathLineEdit.connect("currentPathChanged(QString)", self._onPath)
        ui.pythonPathLineEdit.connect("validInputChanged(bool)", self._onValidity)
        ui.checkPythonButton.connect("clicked(bool)", self._onCheck)

    def facts(self) -> dict[str, str]:
        """Return what the report says about the Python environment."""
        setting = pythonSetting().replace(str(Path.home()), "~")
        facts = {"Python setting": setting or "Slicer's own"}
        if self.lastReport is not None:
            facts["Python"] = self.lastReport.python
            facts["Packages"] = ", ".join(f"{name} {text}" for name, text in self.lastReport.packages.items())
            facts["GPU"] = ", ".join(self.lastReport.cuda_devices) or "none"
        return facts

    def _onPath(self, path: str) -> None:
        setPythonSetting(path)
        self.lastReport = None
        self._showChoice()

    def _onValidity(self, isValid: bool) -> None:
        # The widget announces no path when its line is emptied, which is how the user goes back to Slicer's Python.
        if not isValid:
            self._onPath("")

    def _showChoice(self) -> None:
        own = usesOwnEnvironment()
        self._ui.pythonReportLabel.text = "" if own else _("The Python of 3D Slicer is used.")

    def _onCheck(self, _checked: bool = False) -> None:
        from medseg.errors import MedSegError

        try:
            interpreter = chooseInterpreter()
        except MedSegError as error:
            self._show(str(error))
            return
        self._ui.checkPythonButton.enabled = False
        self._ui.pythonReportLabel.text = _("Checking {path}…").format(path=interpreter.path)
        environment = startupEnvironment() if interpreter.foreign else None
        BackgroundTask(self._poller, lambda: _check(interpreter, environment), self._onChecked)

    def _onChecked(self, report: InterpreterReport | None, error: Exception | None) -> None:
        self._ui.checkPythonButton.enabled = True
        if report is None:
            self._show(_("The check failed: {reason}").format(reason=error))
            return
        self.lastReport = report
        self._show(" ".join(report.problems) or report.summary())

    def _show(self, sentence: str) -> None:
        self._ui.pythonReportLabel.text = sentence
        self._log.add(sentence)


def _check(interpreter: PythonInterpreter, environment: dict[str, str] | None) -> InterpreterReport:
    from medseg.backend.interpreter import check_interpreter

    return check_interpreter(interpreter, environment=environment)
