"""A .ui file is built with the real properties and connections, and errors in it are found."""

from __future__ import annotations

import pytest
import slicer


@pytest.fixture
def a_ui_file(a_module_file):
    """Writes the small module's .ui with one text replaced by another, and returns its path."""
    path = a_module_file.parent / "Resources" / "UI" / "Small.ui"

    def change(old: str = "", new: str = "") -> str:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return str(path)

    return change


def test_widgets_have_their_classes_names_and_properties(the_application, a_ui_file):
    import ctk
    import qt

    top = slicer.util.loadUI(a_ui_file())
    ui = slicer.util.childWidgetVariables(top)
    assert type(top) is slicer.qMRMLWidget
    assert type(ui.inputsButton) is ctk.ctkCollapsibleButton
    assert type(ui.invertBox) is qt.QCheckBox
    assert ui.inputsButton.text == "Inputs"
    assert ui.inputSelector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert ui.inputSelector.noneEnabled
    assert not ui.inputSelector.addEnabled
    assert ui.thresholdSlider.singleStep == 0.1
    assert ui.placeEdit.property("SlicerParameterName") == "place"
    assert ui.inputSelector.parent() is ui.inputsButton
    assert slicer.util.findChild(top, "applyButton").text == "Apply"
    assert slicer.util.findChildren(top, className="QCheckBox") == [ui.invertBox]


def test_flags_of_a_widget_are_read_and_a_wrong_one_is_an_error(the_application, tmp_path):
    from slicer_app.pythonqt.ui_loader import UiError

    form = """<?xml version="1.0" encoding="UTF-8"?><ui version="4.0"><class>Top</class>
    <widget class="qMRMLWidget" name="Top"><layout class="QVBoxLayout"><item>
    <widget class="ctkPathLineEdit" name="edit"><property name="filters"><set>{}</set></property></widget>
    </item></layout></widget></ui>"""
    path = tmp_path / "Top.ui"
    path.write_text(form.format("ctkPathLineEdit::Dirs|ctkPathLineEdit::Readable"), encoding="utf-8")
    ui = slicer.util.childWidgetVariables(slicer.util.loadUI(str(path)))
    assert ui.edit.filters == 0x001 | 0x010
    for wrong in ("ctkPathLineEdit::Folders", "QDir::Dirs"):
        path.write_text(form.format(wrong), encoding="utf-8")
        with pytest.raises(UiError, match="has no flag"):
            slicer.util.loadUI(str(path))


def test_a_missing_file_is_said(the_application, tmp_path):
    with pytest.raises(RuntimeError, match="file not found"):
        slicer.util.loadUI(str(tmp_path / "No.ui"))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('<property name="singleStep">', '<property name="step">', "ctkSliderWidget 'thresholdSlider' has no property"),
        ('class="QCheckBox"', 'class="QChekBox"', "no widget class 'QChekBox'"),
        ("<slot>setMRMLScene(vtkMRMLScene*)", "<slot>setScene(vtkMRMLScene*)", "has no 'setScene"),
        ("<signal>mrmlSceneChanged(", "<signal>sceneChanged(", "has no 'sceneChanged"),
        ("<receiver>inputSelector", "<receiver>outputSelector", "names 'outputSelector'"),
    ],
)
def test_what_the_real_widgets_lack_is_an_error(the_application, a_ui_file, old, new, complaint):
    from slicer_app.pythonqt.ui_loader import UiError

    with pytest.raises(UiError, match=complaint):
        slicer.util.loadUI(a_ui_file(old, new))


def test_what_the_stand_in_lacks_is_another_error(the_application, a_ui_file):
    path = a_ui_file('<property name="singleStep"><double>0.1', '<property name="tickInterval"><double>0.1')
    with pytest.raises(NotImplementedError, match=r"ctkSliderWidget\.tickInterval"):
        slicer.util.loadUI(path)


def test_a_misspelled_parameter_name_is_found_when_the_panel_is_bound(the_application, a_module_file, a_ui_file):
    a_ui_file("<string>invert</string>", "<string>inverted</string>")
    module = the_application.loadModule(a_module_file)
    with pytest.raises(ValueError, match="Cannot find a param with the given name: inverted"):
        assert module.widget


def test_a_panel_can_be_drawn(a_loaded_module, the_application, tmp_path):
    from PySide6.QtGui import QImage

    assert a_loaded_module.widget
    image = QImage(str(the_application.screenshot(tmp_path / "panel.png")))
    assert image.width() > 100
    colors = {image.pixel(x, y) for x in range(0, image.width(), 3) for y in range(0, image.height(), 3)}
    assert len(colors) > 5, "something is drawn on the background"
