"""The decorator that gives typed parameters to a vtkMRMLScriptedModuleNode."""

from __future__ import annotations

import weakref
from typing import Any

import slicer
import vtk

from . import annotations as notes
from .connectors import GuiConnector, createGuiConnector
from .packs import check_member, fields_of

SlicerParameterNamePropertyName = "SlicerParameterName"

PASSED_ON = ("StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified")


class _Parameter:
    """One parameter of one node, read each time."""

    def __init__(self, info: Any, node: Any, prefix: str) -> None:
        self.name, self.info, self.node = f"{prefix}{info.basename}", info, node
        if not info.serializer.isIn(node, self.name):
            info.serializer.write(node, self.name, info.default.value)

    def read(self) -> Any:
        if not self.info.serializer.isIn(self.node, self.name):
            self.info.serializer.write(self.node, self.name, self.info.default.value)
        return self.info.serializer.read(self.node, self.name)

    def write(self, value: Any) -> None:
        self.info.serializer.write(self.node, self.name, value)


class _CachedParameter(_Parameter):
    """One parameter of one node, kept until the node changes."""

    def __init__(self, info: Any, node: Any, prefix: str) -> None:
        super().__init__(info, node, prefix)
        self._value = super().read()
        self._writing = False
        reference = weakref.ref(self)

        def follow(_caller: Any, _event: str) -> None:
            parameter = reference()
            if parameter is not None and not parameter._writing:
                parameter._value = _Parameter.read(parameter)

        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, follow)

    def __del__(self) -> None:
        if hasattr(self, "_tag"):
            self.node.RemoveObserver(self._tag)

    def read(self) -> Any:
        return self._value

    def write(self, value: Any) -> None:
        self._writing = True
        try:
            # Observers of the node may ask for the value, so it must be new before they are told.
            with slicer.util.NodeModify(self.node):
                super().write(value)
                self._value = super().read()
        finally:
            self._writing = False


class _Wrapper:
    """The methods that the decorator gives to a class. Their names are reserved."""

    allParameters: dict[str, Any]
    _parameters: dict[str, _Parameter]

    def default(self, paramName: str) -> notes.Default:
        check_name(self, paramName)
        return self.allParameters[notes.split_dotted(paramName)[0]].default

    def isCached(self, paramName: str) -> bool:
        check_name(self, paramName)
        return isinstance(self._parameters[paramName], _CachedParameter)

    def getValue(self, name: str) -> Any:
        check_name(self, name)
        top, rest = notes.split_dotted(name)
        value = self._parameters[top].read()
        return value if rest is None else value.getValue(rest)

    def setValue(self, name: str, value: Any) -> None:
        check_name(self, name)
        top, rest = notes.split_dotted(name)
        if rest is None:
            self._parameters[top].write(value)
        else:
            self._parameters[top].read().setValue(rest, value)

    def connectGui(self, gui: Any) -> None:
        """Bind every widget with the dynamic property "SlicerParameterName" below ``gui``, or in its attributes.

        Gives no tag to disconnect with, as in Slicer before 5.10 (issue 7547, pull request 8667).
        """
        import qt

        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        candidates = gui.findChildren(qt.QWidget) if is_widget else vars(gui).values()
        named = {w.property(SlicerParameterNamePropertyName): w for w in candidates}
        self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        for name in mapping:
            check_name(self, name)
        connectors = {
            name: target if isinstance(target, GuiConnector) else createGuiConnector(target, self.dataType(name))  # type: ignore[attr-defined]
            for name, target in mapping.items()
        }
        tag = self._next_tag
        self._next_tag += 1
        self._guis[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._make_callback(name, connector))
        self.AddObserver(  # type: ignore[attr-defined]
            vtk.vtkCommand.ModifiedEvent, lambda _caller, _event: self._update_gui()
        )
        return tag

    def disconnectGui(self, guiTag: int) -> None:
        """Let go of the widgets; the observer of the node stays, as in Slicer before 5.12."""
        for connector in self._guis.pop(guiTag, {}).values():
            connector.onChanged(None)

    def _make_callback(self, name: str, connector: GuiConnector) -> Any:
        def callback() -> None:
            with slicer.util.NodeModify(self):
                if not self._updating_gui:
                    self.setValue(name, connector.read())

        return callback

    def _update_gui(self) -> None:
        if self._updating_gui:
            return
        self._updating_gui = True
        try:
            with slicer.util.NodeModify(self):
                for connectors in self._guis.values():
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating_gui = False


def _initialize(self: Any, parameterNode: Any, prefix: str | None = None) -> None:
    self.parameterNode = parameterNode
    self._guis, self._next_tag, self._updating_gui = {}, 0, False
    self._parameters = {}
    for name, info in self.allParameters.items():
        kind = _CachedParameter if info.serializer.supportsCaching() else _Parameter
        self._parameters[name] = kind(info, parameterNode, prefix or "")


def check_name(wrapper: Any, name: str) -> None:
    top, rest = notes.split_dotted(name)
    if top not in wrapper.allParameters:
        message = f"Cannot find a param with the given name: {top}\n  Found parameters {list(wrapper.allParameters)}"
        raise ValueError(message)
    if rest is not None:
        check_member(notes.unannotatedType(wrapper.allParameters[top].unalteredType), rest)


def _property(name: str) -> property:
    return property(lambda self: self._parameters[name].read(), lambda self, value: self._parameters[name].write(value))


def _passed_on(name: str) -> Any:
    return lambda self, *arguments: getattr(self.parameterNode, name)(*arguments)


def parameterNodeWrapper(classtype: Any = None) -> Any:
    """Class decorator: the annotated members are kept in the parameter node that the constructor takes."""

    def decorate(cls: type) -> type:
        fields = fields_of(cls)
        kinds = {name: info.unalteredType for name, info in fields.items()}

        def dataType(membername: str) -> Any:
            check_name(cls, membername)
            top, rest = notes.split_dotted(membername)
            return kinds[top] if rest is None else notes.unannotatedType(kinds[top]).dataType(rest)

        given: dict[str, Any] = {name: value for name, value in vars(_Wrapper).items() if not name.startswith("__")}
        given |= {name: _passed_on(name) for name in PASSED_ON}
        given |= {"allParameters": fields, "dataType": staticmethod(dataType), "_is_parameter_node_wrapper": True}
        for name in given:
            if hasattr(cls, name) or name in fields:
                message = f"Cannot use reserved name '{name}' in a parameterNodeWrapper"
                raise ValueError(message)
        for name, value in {**{n: _property(n) for n in fields}, **given, "__init__": _initialize}.items():
            setattr(cls, name, value)
        return cls

    return decorate if classtype is None else decorate(classtype)


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    import qt

    for child in widget.findChildren(qt.QWidget):
        if child.property(SlicerParameterNamePropertyName) == parameter:
            return child
    return None
