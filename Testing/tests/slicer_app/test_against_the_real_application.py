"""The stand-in is held against what 3D Slicer wrote about itself: nothing more is offered, the manners are the same."""

from __future__ import annotations

import inspect
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def the_real_api(repository: Path) -> dict[str, Any]:
    file = Path(os.environ.get("MEDSEG_SLICER_API") or repository.parent / "shared" / "slicer-api" / "api.json")
    if not file.is_file():
        pytest.skip(f"the list of the real application is not here ({file}); set MEDSEG_SLICER_API to it")
    return json.loads(file.read_text(encoding="utf-8"))


def names_in(api: dict[str, Any], namespace: str, name: str) -> set[str]:
    """Every name of a class of the real application, those of its bases included."""
    described = api[namespace][name]
    names = set(described["properties"]) | set(described["other_names"])
    names |= {s.partition("(")[0] for s in described["signals"]}
    base = described.get("base")
    return names | (names_in(api, *base.split(".")) if base else set())


# What has no class of its own in the list: where its names stand there.
OBJECTS = {
    "qSlicerApplication": "slicer.app",
    "qSlicerLayoutManager": "slicer.app.layoutManager()",
    "qSlicerLoadableModule": "slicer.modules.segmentations",
}


def names_of_object(api: dict[str, Any], key: str) -> set[str]:
    described = api[key]
    names = set(described["properties"]) | set(described["other_names"])
    names |= {s.partition("(")[0] for s in described["signals"]}
    return names | names_in(api, *described["base"].split("."))


def test_every_class_offers_only_names_that_the_real_one_has(the_application, the_real_api):
    from slicer_app.pythonqt.table import classes

    for facts in classes().values():
        if facts.name in OBJECTS:
            real = names_of_object(the_real_api, OBJECTS[facts.name])
        else:
            real = names_in(the_real_api, facts.namespace, facts.name)
        assert facts.all_names() <= real, facts.name


def test_every_signal_and_slot_has_a_signature_of_the_real_one(the_application, the_real_api):
    from slicer_app.pythonqt.table import classes

    for facts in classes().values():
        key = OBJECTS.get(facts.name)
        described = the_real_api[key] if key else the_real_api[facts.namespace][facts.name]
        assert set(facts.signals) <= set(described["signals"]), facts.name
        assert facts.slots <= set(described["signatures"]), facts.name


def test_properties_are_properties_in_the_real_application(the_application, the_real_api):
    from slicer_app.pythonqt.table import classes

    for facts in classes().values():
        key = OBJECTS.get(facts.name)
        described = the_real_api[key] if key else the_real_api[facts.namespace][facts.name]
        assert facts.properties == set(described["properties"]), facts.name


def test_the_widgets_written_here_use_no_name_that_their_table_lacks(the_application):
    """What a widget of the stand-in defines for others to use must be a name of the real widget."""
    from PySide6.QtCore import Property, Signal

    from slicer_app.pythonqt.backings import _backings, facts_of

    # Virtual functions of Qt, which Qt calls and no scripted module.
    inherited = {"eventFilter", "childEvent", "paintEvent", "resizeEvent", "hitButton"}
    for name, backing in _backings.items():
        facts = facts_of(name)
        slots = {s.partition("(")[0] for s in facts.all_slots()}
        signals = {attribute for cls in backing.__mro__ for attribute in vars(cls).get("SIGNALS", {}).values()}
        for cls in (c for c in backing.__mro__ if c.__module__.startswith("slicer_app")):
            for attribute, value in vars(cls).items():
                if attribute.startswith("_") or attribute in inherited | {"SIGNALS", "COLUMNS", "staticMetaObject"}:
                    continue
                if isinstance(value, Signal):
                    assert attribute in signals, f"{name}.{attribute} is a signal that no signature names"
                elif isinstance(value, Property) or callable(value):
                    assert facts.kind(attribute) or attribute in slots, f"{name}.{attribute}"


def test_the_signals_written_here_have_real_signatures(the_application):
    from slicer_app.pythonqt.backings import _backings, facts_of

    not_listed = {"qSlicerScriptedLoadableModuleWidget": {"mrmlSceneChanged(vtkMRMLScene*)"}}
    for name, backing in _backings.items():
        own = {s for cls in backing.__mro__ for s in vars(cls).get("SIGNALS", {})}
        assert own <= facts_of(name).all_signals() | not_listed.get(name, set()), name


def test_classes_that_the_list_describes_are_not_taken_from_qt(the_application, the_real_api):
    from slicer_app.pythonqt.backings import UNLISTED

    assert not set(UNLISTED) & (set(the_real_api["qt"]) | set(the_real_api["ctk"]) | set(the_real_api["slicer"]))


def test_modules_functions_and_classes_exist_in_the_real_application(the_application, the_real_api):
    import slicer

    for key in ("slicer.i18n", "slicer.packaging", "slicer.ScriptedLoadableModule", "slicer.parameterNodeWrapper"):
        module = getattr(slicer, key.split(".")[1])
        offered = {name for name, value in vars(module).items() if not name.startswith("_") and (callable(value))} - {
            "annotations"
        }
        if hasattr(module, "__all__"):
            offered = set(module.__all__)
        assert offered <= set(the_real_api[key]), key


def test_functions_take_the_parameters_of_the_real_ones(the_application, the_real_api):
    import slicer

    for key in ("slicer.util", "slicer.i18n", "slicer.packaging", "slicer.parameterNodeWrapper"):
        module = getattr(slicer, key.split(".")[1])
        for name, signature in the_real_api[key].items():
            value = vars(module).get(name)
            if isinstance(signature, str) and inspect.isfunction(value):
                parameters = re.findall(
                    r"[(,]\s*\*{0,2}([A-Za-z_]\w*)\s*(?=[,:=)])", re.sub(r"\[[^][]*\]", "", signature)
                )
                wanted = [p for p in parameters if p != "self"]
                assert list(inspect.signature(value).parameters) == wanted, f"{key}.{name}"


def test_the_base_classes_of_a_module_have_the_methods_of_the_real_ones(the_application, the_real_api):
    import slicer

    for name, methods in the_real_api["slicer.ScriptedLoadableModule"].items():
        cls = getattr(slicer.ScriptedLoadableModule, name)
        own = {n for n, v in vars(cls).items() if inspect.isfunction(v)}
        assert own <= set(methods) | {"__init__"}, name
        for method, signature in methods.items():
            if method in own and isinstance(signature, str):
                names = re.findall(r"[(,]\s*\*{0,2}(\w+)", signature)
                assert list(inspect.signature(vars(cls)[method]).parameters) == names, f"{name}.{method}"


def test_slicer_modules_offers_only_modules_of_the_real_application(the_application, the_real_api):
    import slicer

    offered = {n for n in vars(slicer.modules) if not n.startswith("_")}
    assert offered <= set(the_real_api["slicer.modules"]) | {"sampleDataSourceCategories"}


def test_the_namespace_slicer_holds_no_functions_of_slicer_util(the_application):
    import slicer

    with pytest.raises(AttributeError):
        slicer.arrayFromVolume  # noqa: B018 - reading it is the test
    assert callable(slicer.util.arrayFromVolume)


def the_same(answer: str, real: str) -> bool:
    """Addresses differ, and so do the sizes that the window system gives; the rest of the text must be the same."""
    pattern = re.escape(real).replace("0x…", "0x[0-9a-f]+")
    return re.fullmatch(pattern, answer) is not None


def describe(expression: Any) -> str:
    try:
        return repr(expression())
    except Exception as error:  # noqa: BLE001 - which exception it is, is the answer
        return f"raises {type(error).__name__}: {error}"


def test_every_manner_is_the_real_one(the_application, the_real_api):
    import qt
    import slicer

    def f(*_arguments: Any) -> None:
        """A slot."""

    b = qt.QPushButton("x")
    combo = qt.QComboBox()
    combo.addItems(["a", "b"])
    table = qt.QTableWidget(2, 2)
    table.setItem(0, 0, qt.QTableWidgetItem("z"))
    timer, process, settings = qt.QTimer(), qt.QProcess(), qt.QSettings()
    selector = slicer.qMRMLNodeComboBox()
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLViewNode")

    def set_index() -> tuple:
        combo.currentIndex = 1
        return None, combo.currentText

    def value() -> tuple:
        stored = settings.setValue("stand-in/number", 5)
        return stored, settings.value("stand-in/number"), type(settings.value("stand-in/number")).__name__

    expressions = {
        "b.text": lambda: b.text,
        "b.text()": b.text,
        "b.enabled": lambda: b.enabled,
        "b.isEnabled()": b.isEnabled,
        "b.nosuch": lambda: b.nosuch,
        "b.objectName": lambda: b.objectName,
        "b.size": lambda: b.size,
        "b.setProperty / property": lambda: (b.setProperty("number", 3), b.property("number")),
        "setattr(b,'nosuch',1)": lambda: setattr(b, "nosuch", 1),
        "b.setText('y')": lambda: b.setText("y"),
        "b.connect('clicked(bool)', f)": lambda: b.connect("clicked(bool)", f),
        "b.connect('nosuch()', f)": lambda: b.connect("nosuch()", f),
        "b.clicked.connect(f)": lambda: b.clicked.connect(f),
        "b.disconnect('clicked(bool)')": lambda: b.disconnect("clicked(bool)"),
        "b.blockSignals(True)": lambda: b.blockSignals(True),
        "combo.count": lambda: combo.count,
        "combo.currentText": lambda: combo.currentText,
        "combo.findText('b')": lambda: combo.findText("b"),
        "combo.itemText(0)": lambda: combo.itemText(0),
        "combo.currentIndex=1": set_index,
        "table.rowCount": lambda: table.rowCount,
        "table.item(0,0).text()": lambda: table.item(0, 0).text(),
        "timer.active": lambda: timer.active,
        "timer.isActive()": timer.isActive,
        "timer.connect('timeout()', f)": lambda: timer.connect("timeout()", f),
        "timer.timeout.connect": lambda: timer.timeout.connect(f),
        "QProcess.start('true', [])": lambda: process.start("true", []),
        "process.state()": process.state,
        "process.waitForFinished()": process.waitForFinished,
        "process.exitCode()": process.exitCode,
        "readAllStandardOutput()": process.readAllStandardOutput,
        "settings.setValue/value": value,
        "settings.remove": lambda: settings.remove("stand-in/number"),
        "qt.Qt.Horizontal": lambda: qt.Qt.Horizontal,
        "int(qt.Qt.Horizontal)": lambda: int(qt.Qt.Horizontal),
        "qt.QSize(3,4).width()": lambda: qt.QSize(3, 4).width(),
        "qt.QTimer.singleShot(0, f)": lambda: qt.QTimer.singleShot(0, f),
        "qMRMLNodeComboBox.nodeTypes": lambda: selector.nodeTypes,
        "addEnabled": lambda: selector.addEnabled,
        "noneEnabled": lambda: selector.noneEnabled,
        "setMRMLScene": lambda: selector.setMRMLScene(slicer.mrmlScene),
        "currentNode()": lambda: (
            (setattr(selector, "nodeTypes", ["vtkMRMLViewNode"]), selector.setCurrentNodeIndex(0))
            and selector.currentNode()
        ),
        "currentNodeID": lambda: selector.currentNodeID,
        "slicer.app.applicationVersion": lambda: slicer.app.applicationVersion,
        "slicer.app.mrmlScene() == slicer.mrmlScene": lambda: slicer.app.mrmlScene() == slicer.mrmlScene,
        "slicer.app.processEvents()": slicer.app.processEvents,
        "slicer.app.testingEnabled()": slicer.app.testingEnabled,
        "slicer.modules.segmentations.logic()": lambda: slicer.modules.segmentations.logic().GetClassName(),
        "slicer.modules.segmentations.path": lambda: bool(slicer.modules.segmentations.path),
    }
    assert set(expressions) == set(the_real_api["manners"])
    answers = {text: describe(expression) for text, expression in expressions.items()}
    different = {text: (a, the_real_api["manners"][text]) for text, a in answers.items()}
    different = {text: pair for text, pair in different.items() if not the_same(*pair)}
    assert not different
