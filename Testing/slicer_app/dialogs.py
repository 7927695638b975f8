"""Dialogs are recorded instead of shown, and questions are answered by the test.

A modal dialog waits for a person; offscreen it would wait for ever. So every way to open one (slicer.util's displays,
Qt's message, file and input dialogs, ``exec``) ends here. A question that the test has no answer for is an error.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import slicer
from PySide6.QtWidgets import QDialog, QFileDialog, QInputDialog, QMessageBox

from .pythonqt.wrapper import wrap

KINDS = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


class UnansweredQuestion(AssertionError):
    """The code under test asked something and the test did not say what the user answers."""


@dataclass(frozen=True)
class Message:
    """One dialog. ``shown`` is False where the real application would only have logged the text."""

    kind: str  # "info", "warning", "error", "question", "file", "input" or "dialog"
    text: str
    title: str = ""
    details: str = ""
    shown: bool = True


@dataclass
class Dialogs:
    """What was shown, and what the user will answer."""

    messages: list[Message] = field(default_factory=list)
    answers: deque[Any] = field(default_factory=deque)

    def record(self, kind: str, text: str, title: str = "", details: str = "", *, shown: bool = True) -> None:
        self.messages.append(Message(kind, text, (title or "").strip(), details or "", shown))

    def answer(self, kind: str, text: str, title: str = "", details: str = "") -> Any:
        self.record(kind, text, title, details)
        if not self.answers:
            message = f"a {kind} dialog would wait for the user: {title or ''} {text}".strip()
            raise UnansweredQuestion(message)
        return self.answers.popleft()

    def clear(self) -> None:
        self.messages.clear()
        self.answers.clear()


dialogs = Dialogs()


def _as_button(answer: Any, standard_buttons: int) -> int:
    """True and False mean the accepting and the rejecting button; a number is the button itself."""
    if not isinstance(answer, bool):
        return int(answer)
    button = QMessageBox.StandardButton
    accepting = (button.Ok, button.Yes, button.Retry, button.Save, button.Open, button.Apply)
    rejecting = (button.Cancel, button.No, button.Close, button.Abort, button.Discard, button.Ignore)
    for candidate in accepting if answer else rejecting:
        if int(standard_buttons) & candidate.value:
            return candidate.value
    return button.Ok.value if answer else button.Cancel.value


def display(
    logLevel: int,
    text: str,
    testingReturnValue: Any,
    mainWindowNeeded: bool = False,
    parent: Any = None,
    windowTitle: str | None = None,
    **kwargs: Any,
) -> Any:
    """In place of slicer.util._messageDisplay: same rules about testing mode and the main window."""
    logging.getLogger().log(logLevel, text)
    buttons = int(kwargs.get("standardButtons") or 0)
    details = kwargs.get("detailedText", "")
    question = testingReturnValue is not None
    kind = "question" if question else KINDS.get(logLevel, "info")
    if slicer.app.testingEnabled():
        dialogs.record(kind, text, windowTitle or "", details, shown=False)
        return testingReturnValue
    if mainWindowNeeded and slicer.util.mainWindow() is None:
        dialogs.record(kind, text, windowTitle or "", details, shown=False)
        return None
    if question:
        return _as_button(dialogs.answer(kind, text, windowTitle or "", details), buttons)
    dialogs.record(kind, text, windowTitle or "", details)
    return buttons or QMessageBox.StandardButton.Ok.value


def message_box(text: str, parent: Any = None, **kwargs: Any) -> int:
    """In place of slicer.util.messageBox."""
    buttons = int(kwargs.get("standardButtons") or 0)
    details, title = kwargs.get("detailedText", ""), kwargs.get("windowTitle", "")
    single = buttons in (0, QMessageBox.StandardButton.Ok.value)
    if slicer.app.testingEnabled() or single:
        dialogs.record("info", text, title, details)
        return QMessageBox.StandardButton.Ok.value
    return _as_button(dialogs.answer("question", text, title, details), buttons)


def delay_display(message: str, autoCloseMsec: int = 1000, parent: Any = None, **kwargs: Any) -> None:
    """In place of slicer.util.delayDisplay: logs and processes events, and does not wait."""
    logging.getLogger().info(message)
    dialogs.record("info", message, shown=autoCloseMsec < 0 or autoCloseMsec >= 400)
    slicer.app.processEvents()


def _execute(dialog: QDialog, *_arguments: Any) -> int:
    """In place of QDialog.exec. A function given as answer is called with the dialog and says what exec returns."""
    if isinstance(dialog, QMessageBox):
        buttons = dialog.standardButtons().value
        text, details = dialog.text(), dialog.detailedText()
        only_ok = buttons in (0, QMessageBox.StandardButton.Ok.value) and len(dialog.buttons()) <= 1
        if only_ok:
            dialogs.record("info", text, dialog.windowTitle(), details)
            return QMessageBox.StandardButton.Ok.value
        return _as_button(dialogs.answer("question", text, dialog.windowTitle(), details), buttons)
    answer = dialogs.answer("dialog", dialog.windowTitle(), dialog.windowTitle())
    if callable(answer):
        return int(answer(wrap(dialog)))
    result = QDialog.DialogCode.Accepted if answer else QDialog.DialogCode.Rejected
    dialog.done(result.value)
    return result.value


def _box(kind: str) -> Callable[..., QMessageBox.StandardButton]:
    def static(_parent: Any, title: str, text: str, buttons: Any = None, *_more: Any) -> QMessageBox.StandardButton:
        default = QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No if kind == "question" else None
        asked = buttons if buttons is not None else default
        if asked is None or asked == QMessageBox.StandardButton.Ok:
            dialogs.record(kind, text, title)
            return QMessageBox.StandardButton.Ok
        answer = _as_button(dialogs.answer("question", text, title), asked.value)
        return QMessageBox.StandardButton(answer)

    return static


def _ask_file(*arguments: Any) -> tuple[str, str]:
    title = arguments[1] if len(arguments) > 1 else ""
    return str(dialogs.answer("file", title, title)), ""


def _ask_files(*arguments: Any) -> tuple[list[str], str]:
    title = arguments[1] if len(arguments) > 1 else ""
    return [str(p) for p in dialogs.answer("file", title, title)], ""


def _ask_text(_parent: Any, title: str, label: str, *_more: Any, **_keywords: Any) -> tuple[Any, bool]:
    answer = dialogs.answer("input", label, title)
    return answer, answer is not None


def install() -> None:
    """Put the recorder in the place of everything that opens a modal dialog."""
    slicer.util._messageDisplay = display
    slicer.util.messageBox = message_box
    slicer.util.delayDisplay = delay_display
    for cls in (QDialog, QMessageBox, QFileDialog, QInputDialog):
        cls.exec = _execute
    for kind, name in (
        ("info", "information"),
        ("warning", "warning"),
        ("error", "critical"),
        ("question", "question"),
    ):
        setattr(QMessageBox, name, staticmethod(_box(kind)))
    QFileDialog.getOpenFileName = staticmethod(_ask_file)
    QFileDialog.getSaveFileName = staticmethod(_ask_file)
    QFileDialog.getOpenFileNames = staticmethod(_ask_files)
    QFileDialog.getExistingDirectory = staticmethod(lambda *a: _ask_file(*a)[0])
    for name in ("getText", "getItem", "getInt", "getDouble", "getMultiLineText"):
        setattr(QInputDialog, name, staticmethod(_ask_text))
