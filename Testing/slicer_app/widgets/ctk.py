"""Widgets of the Common Toolkit: buttons, boxes, text and paths. Stand-ins over Qt 6."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from PySide6.QtCore import Property, QDir, QEvent, QRect, QSettings, QSize, Qt, Signal
from PySide6.QtGui import QAction, QFontMetrics, QIcon, QPainter, QPen, QPixmap
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOption,
    QStyleOptionButton,
    QTextBrowser,
    QToolButton,
    QWidget,
)

from ..pythonqt.table import classes
from .properties import stored


class _Collapsible:
    """What the two collapsible containers share: ``checked`` is always the opposite of ``collapsed``.

    A child that was hidden on purpose stays hidden when the container opens, and one that is shown while the container
    is closed appears when it opens: the dynamic property ``visibilityToParent`` remembers it, as in the real widgets.
    """

    def _collapse(self: Any, collapsed: bool) -> None:
        if collapsed == self._is_collapsed:
            return
        self._is_collapsed = collapsed
        for child in self.children():
            if isinstance(child, QWidget):
                self._force(child)
        self.updateGeometry()

    def _force(self: Any, child: QWidget) -> None:
        wanted = child.property("visibilityToParent")
        self._forcing = True
        child.setVisible(not self._is_collapsed and wanted is not False)
        if wanted is not False:
            # so that hiding the child later is noticed although it is hidden already
            child.setAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self._forcing = False

    def childEvent(self: Any, event: Any) -> None:
        super().childEvent(event)
        child = event.child()
        if event.added() and isinstance(child, QWidget):
            child.installEventFilter(self)
            if self._is_collapsed:
                self._force(child)

    def eventFilter(self: Any, child: Any, event: Any) -> bool:
        shown = event.type() == QEvent.Type.ShowToParent
        if (shown or event.type() == QEvent.Type.HideToParent) and not self._forcing and child.parent() is self:
            child.setProperty("visibilityToParent", shown)
            if shown and self._is_collapsed:
                self._force(child)
        return False


class ctkCollapsibleButton(_Collapsible, QAbstractButton):
    """A header that shows or hides what is below it."""

    _is_collapsed = False
    _forcing = False
    contentsCollapsed = Signal(bool)
    SIGNALS: ClassVar[dict[str, str]] = {"contentsCollapsed(bool)": "contentsCollapsed"}

    def __init__(self, *arguments: Any) -> None:
        text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        parents = [a for a in arguments if isinstance(a, QWidget)]
        super().__init__(*parents)
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._header().height(), 0, 0)
        self.toggled.connect(self._follow)

    def _follow(self, checked: bool) -> None:
        self._collapse(not checked)
        self.contentsCollapsed.emit(not checked)

    def _set_collapsed(self, value: bool) -> None:
        self.setChecked(not value)

    collapsed = Property(bool, lambda self: self._is_collapsed, _set_collapsed)
    collapsedHeight = stored(int, "collapsed_height", 10, QWidget.updateGeometry)
    flat = stored(bool, "flat", False, QWidget.update)

    def _header(self) -> QSize:
        option = QStyleOptionButton()
        option.initFrom(self)
        text = self.fontMetrics().size(Qt.TextFlag.TextShowMnemonic.value, self.text() or "XXXX")
        indicator = self.style().pixelMetric(QStyle.PixelMetric.PM_IndicatorWidth, option, self)
        size = QSize(text.width() + 2 * indicator, max(text.height(), indicator))
        return self.style().sizeFromContents(QStyle.ContentsType.CT_PushButton, option, size, self)

    def sizeHint(self) -> QSize:
        header = self._header()
        if self._is_collapsed:
            return header + QSize(0, self.collapsedHeight)
        layout = self.layout()
        return layout.totalSizeHint().expandedTo(header) if layout else header

    def minimumSizeHint(self) -> QSize:
        layout = self.layout()
        if self._is_collapsed or layout is None:
            return self.sizeHint()
        return layout.totalMinimumSize().expandedTo(self._header())

    def hitButton(self, position: Any) -> bool:
        return position.y() < self._header().height()

    def paintEvent(self, _event: Any) -> None:
        painter = QPainter(self)
        height = self._header().height()
        option = QStyleOptionButton()
        option.initFrom(self)
        option.rect = QRect(0, 0, self.width(), height)
        option.state |= QStyle.StateFlag.State_Sunken if self.isDown() else QStyle.StateFlag.State_Raised
        self.style().drawControl(QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        arrow = QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QRect(6, height // 2 - 5, 10, 10)
        down, right = QStyle.PrimitiveElement.PE_IndicatorArrowDown, QStyle.PrimitiveElement.PE_IndicatorArrowRight
        self.style().drawPrimitive(right if self._is_collapsed else down, arrow, painter, self)
        flags = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRect(24, 0, self.width() - 24, height), flags, self.text())


class ctkCollapsibleGroupBox(_Collapsible, QGroupBox):
    """A group box whose title shows or hides its contents."""

    _is_collapsed = False
    _forcing = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(lambda checked: self._collapse(not checked))

    collapsed = Property(bool, lambda self: self._is_collapsed, lambda self, value: self.setChecked(not value))
    collapsedHeight = stored(int, "collapsed_height", 14, QWidget.updateGeometry)


def _magnifying_glass() -> QIcon:
    picture = QPixmap(32, 32)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(Qt.GlobalColor.darkGray, 3))
    painter.drawEllipse(5, 5, 16, 16)
    painter.drawLine(19, 19, 27, 27)
    painter.end()
    return QIcon(picture)


class ctkSearchBox(QLineEdit):
    """A line edit with a magnifying glass and a cross that clears it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setPlaceholderText("Search...")
        self.setClearButtonEnabled(True)
        self._glass: QAction | None = None

    def _show_glass(self) -> None:
        if self._glass is not None:
            self.removeAction(self._glass)
            self._glass = None
        if self.showSearchIcon:
            self._glass = self.addAction(_magnifying_glass(), QLineEdit.ActionPosition.LeadingPosition)

    showSearchIcon = stored(bool, "show_search_icon", False, lambda self: self._show_glass())


class ctkComboBox(QComboBox):
    """A combo box that shows a default text while nothing is selected."""

    def _show_default(self) -> None:
        self.setPlaceholderText(self.defaultText)

    defaultText = stored(str, "default_text", "", lambda self: self._show_default())
    forceDefault = stored(bool, "force_default", False)

    def setCurrentUserDataAsString(self, value: str) -> None:
        for index in range(self.count()):
            if str(self.itemData(index)) == value:
                self.setCurrentIndex(index)

    currentUserDataAsString = Property(
        str, lambda self: str(self.currentData() or ""), lambda self, value: self.setCurrentUserDataAsString(value)
    )


class ctkCheckBox(QCheckBox):
    """A check box whose indicator may be an icon."""

    indicatorIcon = stored(QIcon, "indicator_icon", QIcon())
    indicatorIconSize = stored(QSize, "indicator_icon_size", QSize())


class ctkPushButton(QPushButton):
    """A push button with control over the place of its text."""


class ctkCheckablePushButton(ctkPushButton):
    """A push button with a check box of its own; the stand-in has the plain button behaviour only."""


class ctkMenuButton(QPushButton):
    """A push button whose arrow opens a menu."""


class ctkExpandableWidget(QFrame):
    """A frame that the user can make taller by dragging."""


class ctkFittedTextBrowser(QTextBrowser):
    """A text browser as tall as its text. The stand-in has no collapsible text."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.textChanged.connect(self.updateGeometry)

    def heightForWidth(self, width: int) -> int:
        document, frame = self.document().clone(), 2 * self.frameWidth()
        document.setTextWidth(width - frame)
        one_line = QFontMetrics(document.defaultFont()).lineSpacing()
        return max(int(document.size().height()), one_line) + frame

    def minimumSizeHint(self) -> QSize:
        width = self.size().width()
        return QSize(width, self.heightForWidth(width)) if width else super().minimumSizeHint()

    def sizeHint(self) -> QSize:
        return self.minimumSizeHint()

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        if event.size().height() != self.heightForWidth(event.size().width()):
            self.updateGeometry()


class ctkMessageBox(QMessageBox):
    """A message box that can be told not to come again; it is recorded like every dialog."""

    dontShowAgainVisible = stored(bool, "dont_show_again_visible", False)
    dontShowAgain = stored(bool, "dont_show_again", False)
    dontShowAgainSettingsKey = stored(str, "dont_show_again_key", "")


class _PathEdit(QWidget):
    """A line and a button that opens a file dialog."""

    def _browse(self, title: str, start: str, *, files: bool, write: bool, filters: str) -> str:
        if not files:
            return QFileDialog.getExistingDirectory(self, title, start)
        ask = QFileDialog.getSaveFileName if write else QFileDialog.getOpenFileName
        return ask(self, title, start, filters)[0]


class ctkPathLineEdit(_PathEdit):
    """A path with its history. Every acceptable text is announced, whether or not the file exists."""

    # CTK's own flags have the names and the values of those of QDir.
    FLAGS: ClassVar[dict[str, int]] = {
        name: flag.value for name, flag in QDir.Filter.__members__.items() if name in classes()["ctkPathLineEdit"].names
    }

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    SIGNALS: ClassVar[dict[str, str]] = {
        "currentPathChanged(QString)": "currentPathChanged",
        "validInputChanged(bool)": "validInputChanged",
    }

    def __init__(self, *arguments: Any) -> None:
        parents = [a for a in arguments if isinstance(a, QWidget)]
        super().__init__(*parents)
        self._valid = False
        default = QDir.Filter.AllEntries | QDir.Filter.NoDotAndDotDot | QDir.Filter.Readable | QDir.Filter.Executable
        self._filters = int(default.value)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self._combo = QComboBox(self)
        self._combo.setEditable(True)
        self._combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self._combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._button = QToolButton(self)
        self._button.setText("...")
        self._button.clicked.connect(self.browse)
        layout.addWidget(self._combo)
        layout.addWidget(self._button)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._combo.lineEdit().textChanged.connect(self._text_changed)

    def comboBox(self) -> QComboBox:
        return self._combo

    def _acceptable(self, text: str) -> bool:
        patterns = [p for f in self.nameFilters for p in (re.findall(r"\(([^)]*)\)", f) or [f])]
        wildcards = [w for p in patterns for w in p.split()]
        # CTK's validator wants at least one character: an emptied line is not announced as a path.
        return any(Path(text).match(w) for w in wildcards) if wildcards else bool(text)

    def _text_changed(self, text: str) -> None:
        before, self._valid = self._valid, self._acceptable(text)
        if self._valid:
            self.currentPathChanged.emit(text)
        if before != self._valid:
            self.validInputChanged.emit(self._valid)

    def setCurrentPath(self, path: str) -> None:
        self._combo.lineEdit().setText(path)

    currentPath = Property(str, lambda self: self._combo.currentText(), setCurrentPath)
    label = stored(str, "label", "")
    nameFilters = stored("QStringList", "name_filters", [])
    filters = Property(int, lambda self: self._filters, lambda self, value: setattr(self, "_filters", int(value)))
    settingKey = stored(str, "setting_key", "", lambda self: self.retrieveHistory())
    minimumContentsLength = stored(int, "minimum_contents_length", 0)
    showBrowseButton = Property(
        bool, lambda self: self._button.isVisibleTo(self), lambda self, value: self._button.setVisible(value)
    )
    showHistoryButton = stored(bool, "show_history_button", True)

    def _key(self) -> str:
        return f"ctkPathLineEdit/{self.settingKey or self.objectName()}"

    def _history(self) -> list[str]:
        history = QSettings().value(self._key()) or []
        return [history] if isinstance(history, str) else list(history)

    def retrieveHistory(self) -> None:
        path = self.currentPath
        blocked = self.blockSignals(True)
        self._combo.clear()
        self._combo.addItems(self._history()[:5])
        if path:
            self.setCurrentPath(path)
        self.blockSignals(blocked)
        if not path:
            self._combo.setCurrentIndex(0)

    def addCurrentPathToHistory(self) -> None:
        path = self.currentPath
        if not path:
            return
        QSettings().setValue(self._key(), [path, *(p for p in self._history() if p != path)])
        index = self._combo.findText(path)
        if index >= 0:
            self._combo.removeItem(index)
        self._combo.insertItem(0, path)
        self._combo.setCurrentIndex(0)

    def browse(self) -> None:
        files = bool(self._filters & QDir.Filter.Files.value)
        write = bool(self._filters & QDir.Filter.Writable.value)
        title = "Open a file" if files else "Select a directory..."
        chosen = self._browse(title, self.currentPath, files=files, write=write, filters=";;".join(self.nameFilters))
        if chosen:
            self.setCurrentPath(chosen)


class ctkDirectoryButton(_PathEdit):
    """A button that shows a folder and asks for another one when clicked."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    SIGNALS: ClassVar[dict[str, str]] = {
        "directoryChanged(QString)": "directoryChanged",
        "directorySelected(QString)": "directorySelected",
    }

    def __init__(self, *arguments: Any) -> None:
        start = next((a for a in arguments if isinstance(a, str)), ".")
        super().__init__(*[a for a in arguments if isinstance(a, QWidget)])
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._button = QPushButton(self)
        layout.addWidget(self._button)
        self._button.clicked.connect(self.browse)
        self._directory = "."
        self._button.setText(QDir().absolutePath())
        self._set_directory(start)

    def _set_directory(self, folder: str) -> None:
        # "." stays as it is until another folder is chosen, which is kept as an absolute path.
        if QDir(folder) == QDir(self._directory):
            return
        self._directory = QDir(folder).absolutePath()
        self._button.setText(self._directory)
        self.directoryChanged.emit(self._directory)

    directory = Property(str, lambda self: self._directory, _set_directory)
    caption = stored(str, "caption", "")

    def browse(self) -> None:
        chosen = self._browse(
            self.caption or "Select a directory", self._directory, files=False, write=False, filters=""
        )
        if chosen:
            self._set_directory(chosen)
            self.directorySelected.emit(chosen)


WIDGETS = (
    ctkCollapsibleButton,
    ctkCollapsibleGroupBox,
    ctkSearchBox,
    ctkComboBox,
    ctkCheckBox,
    ctkPushButton,
    ctkCheckablePushButton,
    ctkMenuButton,
    ctkExpandableWidget,
    ctkFittedTextBrowser,
    ctkMessageBox,
    ctkPathLineEdit,
    ctkDirectoryButton,
)
