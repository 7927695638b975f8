"""Derive ``api_table.json`` from the list that the real application wrote about itself.

``python Testing/slicer_app/make_table.py PATH/TO/api.json`` rewrites the table. It keeps names only (no text), and only
for the classes that the stand-in offers or meets, so that the tests need nothing outside the repository.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("api_table.json")

CTK = [
    "ctkCheckBox",
    "ctkCheckablePushButton",
    "ctkCollapsibleButton",
    "ctkCollapsibleGroupBox",
    "ctkColorPickerButton",
    "ctkComboBox",
    "ctkDirectoryButton",
    "ctkDoubleRangeSlider",
    "ctkDoubleSlider",
    "ctkDoubleSpinBox",
    "ctkExpandableWidget",
    "ctkFittedTextBrowser",
    "ctkMenuButton",
    "ctkMessageBox",
    "ctkPathLineEdit",
    "ctkPushButton",
    "ctkRangeWidget",
    "ctkSearchBox",
    "ctkSliderWidget",
]

SLICER = [
    "qMRMLCollapsibleButton",
    "qMRMLNodeComboBox",
    "qMRMLRangeWidget",
    "qMRMLSegmentEditorWidget",
    "qMRMLSegmentationShow3DButton",
    "qMRMLSegmentsTableView",
    "qMRMLSliceView",
    "qMRMLSliceWidget",
    "qMRMLSliderWidget",
    "qMRMLSpinBox",
    "qMRMLTableView",
    "qMRMLThreeDView",
    "qMRMLThreeDWidget",
    "qMRMLWidget",
    "qSlicerAbstractModuleWidget",
    "qSlicerCoreIOManager",
    "qSlicerIOManager",
    "qSlicerLayoutManager",
    "qSlicerLoadableModule",
    "qSlicerMainWindow",
    "qSlicerModuleSelectorToolBar",
    "qSlicerModuleFactoryManager",
    "qSlicerModuleManager",
    "qSlicerScriptedLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
    "qSlicerSegmentEditorAbstractEffect",
    "qSlicerSegmentEditorEffectFactory",
    "qSlicerSegmentEditorScriptedEffect",
    "qSlicerSegmentEditorScriptedLabelEffect",
    "qSlicerSegmentEditorScriptedPaintEffect",
    "qSlicerWidget",
]

# Not classes of their own in the list, but single objects: the application knows their class names.
OBJECTS = {
    "slicer.app": "qSlicerApplication",
    "slicer.app.layoutManager()": "qSlicerLayoutManager",
    "slicer.modules.segmentations": "qSlicerLoadableModule",
}


def entry(described: dict) -> dict:
    kept = {"base": described.get("base", "").rpartition(".")[2]}
    kept["properties"] = sorted(described["properties"])
    kept["signals"] = sorted(described["signals"])
    # A slot whose name starts with an underscore is private to Qt: nobody connects to it by name.
    kept["slots"] = sorted(s for s in described["signatures"] if not s.startswith("_"))
    kept["names"] = sorted(described["other_names"])
    return kept


def main(path: str) -> None:
    api = json.loads(Path(path).read_text(encoding="utf-8"))
    classes = {name: ("qt", api["qt"][name]) for name in api["qt"]}
    classes |= {name: ("ctk", api["ctk"][name]) for name in CTK}
    classes |= {name: ("slicer", api["slicer"][name]) for name in SLICER}
    classes |= {name: ("slicer" if name in SLICER else "", api[key]) for key, name in OBJECTS.items()}
    lines = []
    for name, (namespace, described) in classes.items():
        body = json.dumps({"namespace": namespace, **entry(described)}, separators=(",", ":"))
        lines.append(f"{json.dumps(name)}:{body}")
    modules = json.dumps(api["slicer.modules"], separators=(",", ":"))
    versions = json.dumps(api["versions"], separators=(",", ":"))
    text = '{"versions":' + versions + ',\n"modules":' + modules + ',\n"classes":{\n' + ",\n".join(lines) + "\n}}\n"
    json.loads(text)
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
