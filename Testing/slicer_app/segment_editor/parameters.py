"""The parameters of an effect: attributes and references of the editor's node, as the real effects keep them."""

from __future__ import annotations

from typing import Any

import vtk
from PySide6.QtCore import QLocale

from .complaints import complain

INT_RANGE = range(-(2**31), 2**31)


def weakly(thing: Any) -> Any:
    """A reference that does not keep a VTK object alive: ``.Get()``."""
    reference = vtk.vtkWeakReference()
    reference.Set(thing)
    return reference


def as_text(value: str | float) -> str:
    """What is written for a value. Raises TypeError for what PythonQt takes for something else than it is.

    The overloads take a text, a whole number or a number; a bool, a number of numpy or an enumerator fits none of them
    exactly and may be written as anything, so the stand-in refuses it.
    """
    if type(value) is str:
        return value
    if type(value) is int and value in INT_RANGE:
        return str(value)
    if type(value) is float:
        return f"{value:.6g}"
    message = f"a parameter is a str, an int of 32 bits or a float, not {value!r} of type {type(value).__name__}"
    raise TypeError(message)


def _named(name: str) -> str:
    if type(name) is not str:
        message = f"the name of a parameter is a str, not {name!r}"
        raise TypeError(message)
    return name


class Parameters:
    """The part of an effect that reads and writes parameters. ``name`` is the effect's."""

    name: Any
    _node = weakly(None)

    def parameterSetNode(self) -> Any:
        return self._node.Get()

    def setParameterSetNode(self, node: Any) -> None:
        self._node = weakly(node)

    def scene(self) -> Any:
        node = self.parameterSetNode()
        return None if node is None else node.GetScene()

    def _prefixed(self, name: str) -> str:
        return f"{self.name}.{_named(name)}"

    def _node_to_write(self) -> Any:
        node = self.parameterSetNode()
        if node is None:
            complain(f"invalid segment editor parameter set node set to effect {self.name}")
        return node

    # ---- reading ---------------------------------------------------------------------------------------------------
    def parameter(self, name: str) -> str:
        node, prefixed = self.parameterSetNode(), self._prefixed(name)
        if node is None:
            return ""
        for key in (prefixed, name):
            if node.GetAttribute(key) is not None:
                return node.GetAttribute(key)
        complain(f"parameter named {name} cannot be found for effect {self.name}")
        return ""

    def integerParameter(self, name: str) -> int:
        if self.parameterSetNode() is None:
            return 0
        value, good = QLocale.c().toInt(self.parameter(name))
        if not good:
            complain(f"parameter named {name} cannot be converted to integer")
        return value if good else 0

    def doubleParameter(self, name: str) -> float:
        if self.parameterSetNode() is None:
            return 0.0
        value, good = QLocale.c().toDouble(self.parameter(name))
        if not good:
            complain(f"parameter named {name} cannot be converted to floating point number")
        return value if good else 0.0

    def nodeReference(self, name: str) -> Any:
        node, prefixed = self.parameterSetNode(), self._prefixed(name)
        if node is None:
            return None
        return node.GetNodeReference(prefixed) or node.GetNodeReference(name)

    def parameterDefined(self, name: str) -> bool:
        return self.commonParameterDefined(self._prefixed(name))

    def commonParameterDefined(self, name: str) -> bool:
        node = self.parameterSetNode()
        return node is not None and bool(node.GetAttribute(_named(name)))

    # ---- writing ---------------------------------------------------------------------------------------------------
    def setParameter(self, name: str, value: str | float) -> None:
        self.setCommonParameter(self._prefixed(name), value)

    def setParameterDefault(self, name: str, value: str | float) -> None:
        text = as_text(value)
        if not self.parameterDefined(name):
            self.setParameter(name, text)

    def setCommonParameter(self, name: str, value: str | float) -> None:
        text, node = as_text(value), self._node_to_write()
        if node is None:
            return
        before = node.GetAttribute(_named(name))
        if text == (before or ""):
            return
        disabled = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(1)
        node.SetAttribute(name, text)
        node.SetDisableModifiedEvent(disabled)
        node.InvokeCustomModifiedEvent(node.EffectParameterModified)

    def setCommonParameterDefault(self, name: str, value: str | float) -> None:
        text = as_text(value)
        if not self.commonParameterDefined(name):
            self.setCommonParameter(name, text)

    def setNodeReference(self, name: str, referenced: Any) -> None:
        self.setCommonNodeReference(self._prefixed(name), referenced)

    def setCommonNodeReference(self, name: str, referenced: Any) -> None:
        node = self._node_to_write()
        if node is None or referenced is node.GetNodeReference(_named(name)):
            return
        node.SetNodeReferenceID(name, None if referenced is None else referenced.GetID())
        node.InvokeCustomModifiedEvent(node.EffectParameterModified)
