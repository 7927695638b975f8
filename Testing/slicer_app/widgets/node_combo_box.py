"""The node selector. A stand-in for qMRMLNodeComboBox that follows its sources, on a real scene."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import shiboken6
import slicer
import vtk
from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtGui import QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QInputDialog, QSizePolicy, QWidget

from .ctk import ctkComboBox
from .properties import stored

logger = logging.getLogger(__name__)

NODE_ID = Qt.ItemDataRole.UserRole + 1
ACTION = Qt.ItemDataRole.UserRole + 2


def observe(
    subject: Any, event: int | str, owner: Any, method: str, *, passes_node: bool = False
) -> Callable[[], None]:
    """Call ``owner.method(node)`` on ``event``, without keeping the owner alive; returns what ends it.

    The node is the one that the event is about where ``passes_node``, which only events of the scene may ask for (other
    events carry texts or numbers, and taking those for objects crashes), and else the subject itself.
    """
    reference = weakref.ref(owner)

    def call(node: Any) -> None:
        target = reference()
        if target is None or not shiboken6.isValid(target):
            subject.RemoveObserver(tag)
        else:
            getattr(target, method)(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def about_node(_caller: Any, _event: str, node: Any) -> None:
        call(node)

    tag = subject.AddObserver(event, about_node if passes_node else lambda caller, _event: call(caller))
    return lambda: subject.RemoveObserver(tag)


class qMRMLNodeComboBox(QWidget):
    """Lists the nodes of a scene of some types, with "None" before and actions (create, rename, delete) after them."""

    currentNodeChanged = Signal(object)
    currentNodeChangedToAny = Signal(bool)
    currentNodeIDChanged = Signal(str)
    currentNodeRenamed = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    SIGNALS: ClassVar[dict[str, str]] = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "currentNodeChangedToAny",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged",
        "currentNodeRenamed(QString)": "currentNodeRenamed",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeAddedByUserAction(vtkMRMLNode*)": "nodeAddedByUserAction",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved",
        "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._requested = ""
        self._filling = False
        self._types: list[str] = []
        self._labels: dict[str, str] = {}
        self._base_names: dict[str, str] = {}
        self._attributes: list[tuple[str, str, str | None]] = []
        self._user_actions: list[Any] = []
        self._scene_observers: list[Callable[[], None]] = []
        self._node_observers: dict[str, Callable[[], None]] = {}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = ctkComboBox(self)
        self._combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._combo.setFocusProxy(self)
        self._model = QStandardItemModel(0, 1, self._combo)
        self._combo.setModel(self._model)
        layout.addWidget(self._combo)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._combo.currentTextChanged.connect(self._current_changed)
        self._combo.activated.connect(self._activated)
        self._update_default_text()
        self.setEnabled(False)

    # ---- properties ------------------------------------------------------------------------------------------------
    noneEnabled = stored(bool, "none_enabled", False, lambda self: self._refill())
    noneDisplay = stored(str, "none_display", "None", lambda self: self._refill())
    addEnabled = stored(bool, "add_enabled", True, lambda self: self._refill())
    removeEnabled = stored(bool, "remove_enabled", True, lambda self: self._refill())
    editEnabled = stored(bool, "edit_enabled", False, lambda self: self._refill())
    renameEnabled = stored(bool, "rename_enabled", False, lambda self: self._refill())
    showHidden = stored(bool, "show_hidden", False, lambda self: self._refill())
    showChildNodeTypes = stored(bool, "show_child_node_types", True, lambda self: self._refill())
    hideChildNodeTypes = stored("QStringList", "hide_child_node_types", [], lambda self: self._refill())
    selectNodeUponCreation = stored(bool, "select_node_upon_creation", True)
    interactionNodeSingletonTag = stored(str, "interaction_tag", "Singleton")

    def _get_types(self) -> list[str]:
        return self._types

    def _set_types(self, types: list[str]) -> None:
        self._types = [t for t in types if t]
        self._update_default_text()
        self._refill()

    nodeTypes = Property("QStringList", _get_types, _set_types)

    def _get_base_name(self) -> str:
        return self._base_names.get(self._types[0], "") if self._types else ""

    def _set_base_name(self, name: str) -> None:
        if not self._types:
            logger.warning("qMRMLNodeComboBox::setBaseName failed: no node types have been set yet")
        self._base_names.update(dict.fromkeys(self._types, name))

    baseName = Property(str, _get_base_name, _set_base_name)

    def _current_id(self) -> str:
        node = self.currentNode()
        return node.GetID() if node else ""

    # ---- contents --------------------------------------------------------------------------------------------------
    def _shown(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        kinds = [t for t in self._types if node.IsA(t)] if self.showChildNodeTypes else []
        kinds = kinds or [t for t in self._types if node.GetClassName() == t]
        if self._types and not kinds:
            return False
        if any(node.IsA(t) and node.GetClassName() not in self._types for t in self.hideChildNodeTypes):
            return False
        wanted = [(name, value) for kind, name, value in self._attributes if node.IsA(kind)]
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name)) for name, value in wanted
        )

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        every = (self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes()))
        return [node for node in every if self._shown(node)]

    def _extra_items(self) -> list[tuple[str, str]]:
        if self._scene is None:
            return []
        label = self.nodeTypeLabel(self._types[0] if len(self._types) == 1 else "")
        items = []
        if self.renameEnabled:
            items.append((f"Rename current {label}", "RENAME"))
        if self.editEnabled:
            items.append((f"Edit current {label}", "EDIT"))
        if self.addEnabled:
            for kind in self._types:
                items.append((f"Create new {self.nodeTypeLabel(kind)}", f"CREATE/{kind}"))
                if self.renameEnabled:
                    items.append((f"Create new {self.nodeTypeLabel(kind)} as...", f"CREATE_AS/{kind}"))
        if self.removeEnabled:
            items.append((f"Delete current {label}", "DELETE"))
        return items + [(action.text(), f"USER/{i}") for i, action in enumerate(self._user_actions)]

    def _refill(self) -> None:
        """List everything anew and keep the current node, if it is still shown."""
        current = self._current_id()
        was_first_row = self._combo.currentIndex() == 0
        self._filling = True
        self._model.clear()
        if self._scene is not None and self.noneEnabled:
            self._append(self.noneDisplay, NODE_ID, "")
        for node in self._nodes():
            self._append(node.GetName() or "", NODE_ID, node.GetID())
        for text, action in self._extra_items():
            self._append(text, ACTION, action)
        index = self._combo.findData(current, NODE_ID) if current else -1
        if index < 0 and self.noneEnabled and self._scene is not None:
            index = 0
        self._combo.setCurrentIndex(index)
        self._filling = False
        if current and self._current_id() != current and not was_first_row:
            self._current_changed()

    def _append(self, text: str, role: int, data: str) -> None:
        item = QStandardItem(text)
        item.setData(data, role)
        self._model.appendRow(item)

    def _update_default_text(self) -> None:
        self._combo.defaultText = f"Select a {self.nodeTypeLabel(self._types[0] if self._types else '')}"

    # ---- the scene -------------------------------------------------------------------------------------------------
    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        for end in [*self._scene_observers, *self._node_observers.values()]:
            end()
        self._scene_observers, self._node_observers = [], {}
        current = self._current_id()
        self._scene = scene
        if scene is not None:
            removed = slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent
            self._scene_observers = [
                observe(scene, slicer.vtkMRMLScene.NodeAddedEvent, self, "_scene_added", passes_node=True),
                observe(scene, removed, self, "_scene_removes", passes_node=True),
            ]
            for i in range(scene.GetNumberOfNodes()):
                self._watch(scene.GetNthNode(i))
        self._filling = True
        self._refill()
        self._filling = False
        wanted = self._requested or current
        if not wanted and not self.noneEnabled and self.nodeCount():
            wanted = self.nodeFromIndex(0).GetID()
        self._requested = ""
        self.setCurrentNodeID(wanted)
        self._update_default_text()
        self.setEnabled(scene is not None)

    def _watch(self, node: Any) -> None:
        self._node_observers[node.GetID()] = observe(node, vtk.vtkCommand.ModifiedEvent, self, "_node_modified")

    def _row(self, node_id: str) -> int:
        return self._combo.findData(node_id, NODE_ID) if node_id else -1

    def _scene_added(self, node: Any) -> None:
        self._watch(node)
        if self._shown(node):
            self._insert(node)

    def _insert(self, node: Any) -> None:
        position = [n.GetID() for n in self._nodes()].index(node.GetID()) + bool(self.noneEnabled)
        item = QStandardItem(node.GetName() or "")
        item.setData(node.GetID(), NODE_ID)
        self._model.insertRow(position, item)
        self.nodeAdded.emit(node)

    def _scene_removes(self, node: Any) -> None:
        end = self._node_observers.pop(node.GetID(), None)
        if end is not None:
            end()
        self._drop(node)

    def _drop(self, node: Any) -> None:
        row = self._row(node.GetID())
        if row < 0:
            return
        self.nodeAboutToBeRemoved.emit(node)
        self._model.removeRow(row)
        if self.currentNode() is None:
            self.setCurrentNode(None)

    def _node_modified(self, node: Any) -> None:
        if node.GetID() is None or self._scene is None or self._scene.GetNodeByID(node.GetID()) is None:
            return
        row, shown = self._row(node.GetID()), self._shown(node)
        if shown and row < 0:
            self._insert(node)
        elif row >= 0 and not shown:
            self._drop(node)
        elif row >= 0 and self._model.item(row).text() != (node.GetName() or ""):
            self._model.item(row).setText(node.GetName() or "")

    # ---- the current node --------------------------------------------------------------------------------------------
    def _node_at(self, row: int) -> Any:
        node_id = self._combo.itemData(row, NODE_ID) if row >= 0 else None
        return self._scene.GetNodeByID(node_id) if node_id and self._scene else None

    def currentNode(self) -> Any:
        return self._node_at(self._combo.currentIndex())

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else (node.GetID() or "") if node else "")

    def setCurrentNodeID(self, node_id: str | None) -> None:
        if self._scene is None:
            self._requested = node_id or ""
        row = self._row(node_id or "")
        if row < 0:
            row = 0 if self.noneEnabled and self._scene is not None else -1
        self._combo.setCurrentIndex(row)

    currentNodeID = Property(str, _current_id, setCurrentNodeID)

    def setCurrentNodeIndex(self, index: int) -> None:
        index = -1 if index >= self.nodeCount() else index
        self._combo.setCurrentIndex(index + bool(self.noneEnabled))

    def _current_changed(self, _text: str = "") -> None:
        if self._filling:
            return
        row, node = self._combo.currentIndex(), self.currentNode()
        if node is None and row != (0 if self.noneEnabled else -1):
            # An action is not a choice: the last node is taken instead, if there is one.
            last = self.nodeFromIndex(self.nodeCount() - 1)
            if last is not None:
                self.setCurrentNode(last)
            return
        self.currentNodeChanged.emit(node)
        self.currentNodeChangedToAny.emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node else "")

    def nodeCount(self) -> int:
        return len([r for r in range(self._model.rowCount()) if self._combo.itemData(r, NODE_ID)])

    def nodeFromIndex(self, index: int) -> Any:
        return self._node_at(index + bool(self.noneEnabled))

    # ---- what the user does ------------------------------------------------------------------------------------------
    def _activated(self, row: int) -> None:
        action = self._combo.itemData(row, ACTION)
        if action:
            self._act(*action.partition("/")[::2])
        else:
            self.nodeActivated.emit(self._node_at(row))

    def _act(self, action: str, what: str) -> None:
        if action in ("CREATE", "CREATE_AS"):
            name = self._ask_name(f"Create new {self.nodeTypeLabel(what)}", "") if action == "CREATE_AS" else None
            if name != "":
                self._create(what, name)
        elif action == "DELETE":
            self.removeCurrentNode()
        elif action == "RENAME":
            self.renameCurrentNode()
        elif action == "EDIT":
            self.editCurrentNode()
        elif action == "USER":
            self._user_actions[int(what)].trigger()

    def _create(self, kind: str, name: str | None) -> None:
        node = self.addNode(kind)
        if name:
            node.SetName(name)
        self.setCurrentNode(node)
        self.nodeAddedByUserAction.emit(node)

    def _ask_name(self, title: str, name: str) -> str:
        text, accepted = QInputDialog.getText(self, title, "New name:", text=name)
        return text if accepted else ""

    def addNode(self, kind: str | None = None) -> Any:
        if kind is None and not self._types:
            return None
        kind = kind or self._types[0]
        if kind not in self._types:
            logger.warning("qMRMLNodeComboBox::addNode() attempted with node type %s, which is not allowed", kind)
            return None
        base = self._base_names.get(kind) or self._scene.GetTagByClassName(kind)
        node = self._scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetName(self._scene.GetUniqueNameByString(base))
        for _kind, attribute, value in self._attributes:
            node.SetAttribute(attribute, value or "")
        self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        if node is None:
            return
        name = self._ask_name(f"Rename {self.nodeTypeLabel(node.GetClassName())}", node.GetName())
        if name:
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    def editCurrentNode(self) -> None:
        self.nodeAboutToBeEdited.emit(self.currentNode())

    def addMenuAction(self, action: Any) -> None:
        self._user_actions.append(action)
        self._refill()

    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self._attributes.append((kind, name, None if value is None else str(value)))
        self._refill()

    def removeAttribute(self, kind: str, name: str) -> None:
        self._attributes = [a for a in self._attributes if a[:2] != (kind, name)]
        self._refill()

    def nodeTypeLabel(self, kind: str) -> str:
        if kind in self._labels:
            return self._labels[kind]
        label = self._scene.GetTypeDisplayNameByClassName(kind) if self._scene is not None and kind else ""
        return label or "node"

    def setNodeTypeLabel(self, label: str, kind: str) -> None:
        self._labels[kind] = label
        self._update_default_text()
        self._refill()

    def _get_policy(self) -> QComboBox.SizeAdjustPolicy:
        return self._combo.sizeAdjustPolicy()

    sizeAdjustPolicy = Property(int, _get_policy, lambda self, v: self._combo.setSizeAdjustPolicy(v))


WIDGETS: tuple[type[Any], ...] = (qMRMLNodeComboBox,)
