"""``qt`` and ``ctk`` behave as PythonQt's modules do, also where the list of the real application says nothing."""

from __future__ import annotations

import functools
import gc
import logging

import pytest


@pytest.fixture
def qt(the_application):
    import qt

    return qt


def test_properties_are_read_and_set_without_calling(qt):
    button = qt.QPushButton("x")
    button.text = "y"
    assert button.text == "y"
    with pytest.raises(TypeError, match="'str' object is not callable"):
        button.text()
    with pytest.raises(AttributeError, match="not writable"):
        button.width = 3


def test_unknown_names_are_errors_both_ways(qt):
    button = qt.QPushButton()
    with pytest.raises(AttributeError, match="QPushButton has no attribute named 'txet'"):
        button.txet  # noqa: B018 - reading it is the test
    with pytest.raises(AttributeError, match="'txet' does not exist on QPushButton"):
        button.txet = "x"
    assert not hasattr(button, "txet")


def test_what_slicer_has_and_the_stand_in_lacks_says_so(qt):
    with pytest.raises(NotImplementedError, match="installEventFilter"):
        qt.QLabel().installEventFilter(qt.QObject())
    with pytest.raises(NotImplementedError, match="virtual"):

        class Painted(qt.QWidget):
            def paintEvent(self, event):
                """Would be called in Slicer only."""


def test_a_class_that_slicer_lacks_does_not_exist(qt):
    import ctk

    with pytest.raises(AttributeError):
        qt.QNothing  # noqa: B018 - reading it is the test
    with pytest.raises(AttributeError):
        ctk.QLabel  # noqa: B018 - reading it is the test


def test_a_slot_gets_no_more_arguments_than_it_takes(qt):
    box, got = qt.QCheckBox(), []
    box.connect("toggled(bool)", lambda: got.append("none"))
    box.toggled.connect(got.append)
    box.toggled.connect(lambda on, more="default": got.append((on, more)))
    box.toggled.connect(functools.partial(got.append))
    box.checked = True
    assert got == ["none", True, (True, "default"), True]


def test_clicked_by_name_passes_the_state_and_by_its_short_signature_nothing(qt):
    button, got = qt.QPushButton(), []
    button.clicked.connect(lambda *a: got.append(a))
    button.connect("clicked()", lambda *a: got.append(a))
    button.click()
    assert got == [(False,), ()]


def test_an_unknown_signal_is_not_connected_and_is_logged(qt, caplog):
    assert not qt.QPushButton().connect("pushed()", print)
    assert "No such signal QPushButton::pushed()" in caplog.text


def test_a_signal_may_be_connected_to_a_slot_of_another_object(qt):
    box, label = qt.QCheckBox(), qt.QLabel()
    assert box.connect("toggled(bool)", label, "setEnabled(bool)")
    assert not box.connect("toggled(bool)", label, "noSuchSlot(bool)")
    label.enabled = False
    box.checked = True
    assert label.enabled


def test_disconnecting_removes_the_one_or_all(qt):
    button, got = qt.QPushButton(), []
    first, second = (lambda: got.append(1)), (lambda: got.append(2))
    button.connect("clicked()", first)
    button.connect("clicked()", second)
    assert button.disconnect("clicked()", first)
    button.click()
    assert got == [2]
    assert button.disconnect("clicked()")
    assert not button.disconnect("clicked()")
    button.click()
    assert got == [2]


def test_signals_of_qt_5_that_qt_6_renamed_still_connect(qt):
    combo, got = qt.QComboBox(), []
    combo.connect("currentIndexChanged(QString)", got.append)
    combo.currentIndexChanged.connect(got.append)
    combo.addItems(["a", "b"])
    combo.setCurrentText("b")
    assert sorted(map(str, got)) == ["0", "1", "a", "b"]


def test_an_exception_in_a_slot_does_not_reach_the_caller(qt, the_application, caplog):
    button, got = qt.QPushButton(), []

    def fails():
        raise RuntimeError("on purpose")

    button.connect("clicked()", fails)
    button.connect("clicked()", lambda: got.append("next"))
    with caplog.at_level(logging.ERROR):
        button.click()
    assert got == ["next"]
    assert [str(e) for e in the_application.takeSlotErrors()] == ["on purpose"]
    assert "An exception left a slot" in caplog.text


def test_an_exception_in_an_observer_of_vtk_is_kept_too(the_application, a_volume):
    import vtk

    def fails(_caller, _event):
        raise RuntimeError("observed")

    node = a_volume()
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, fails)
    node.Modified()
    assert [str(e) for e in the_application.takeSlotErrors()] == ["observed"]


def test_errors_that_nobody_took_fail_the_test(the_application, qt):
    from slicer_app.application import SlotError

    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    with pytest.raises(SlotError, match="division by zero"):
        the_application.reset()


def test_lists_come_back_as_tuples(qt):
    widget = qt.QWidget()
    layout = qt.QVBoxLayout(widget)
    inner = qt.QLabel("inside")
    layout.addWidget(inner)
    assert widget.children() == (layout, inner)
    assert widget.findChildren(qt.QLabel) == (inner,)
    assert widget.findChildren("QLabel") == (inner,)
    assert widget.findChild(qt.QPushButton) is None


def test_the_same_object_comes_back_as_the_same_wrapper(qt):
    widget = qt.QWidget()
    layout = qt.QVBoxLayout(widget)
    label = qt.QLabel()
    layout.addWidget(label)
    assert label.parent() is widget
    assert label.parent() == label.parent()
    assert widget.layout() is layout
    assert label != layout


def test_enumerators_are_numbers_and_numbers_are_enumerators(qt):
    assert qt.Qt.Vertical == 2
    assert repr(qt.QMessageBox.Ok | qt.QMessageBox.Cancel) == repr(0x400 | 0x400000)
    slider = qt.QSlider(qt.Qt.Horizontal)
    assert slider.orientation == 1
    slider.setOrientation(2)
    assert slider.orientation == qt.Qt.Vertical
    slider.orientation = qt.Qt.Horizontal
    assert slider.orientation == 1
    label = qt.QLabel()
    label.setAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    assert label.alignment == 0x82
    box = qt.QCheckBox()
    box.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
    assert box.sizePolicy.horizontalPolicy() == qt.QSizePolicy.Expanding


def test_a_class_of_ones_own_keeps_its_attributes_as_long_as_qt_keeps_it(qt):
    class Line(qt.QWidget):
        def __init__(self, parent=None):
            qt.QWidget.__init__(self, parent)
            self.number = 3

    window = qt.QWidget()
    Line(window)
    gc.collect()
    (line,) = [c for c in window.children() if isinstance(c, Line)]
    assert line.number == 3


def test_a_widget_written_here_keeps_its_state_as_long_as_qt_keeps_it(qt, the_application):
    import ctk

    window = qt.QWidget()
    layout = qt.QVBoxLayout(window)
    edit = ctk.ctkPathLineEdit()
    edit.currentPath = "kept"
    layout.addWidget(edit)
    del edit
    gc.collect()
    assert window.findChild(ctk.ctkPathLineEdit).currentPath == "kept"


def test_a_destroyed_object_is_false_and_says_what_it_is(qt):
    button = qt.QPushButton()
    button.delete()
    assert not button
    with pytest.raises(ValueError, match="destroyed QPushButton"):
        button.text  # noqa: B018 - reading it is the test


def test_single_shots_run_in_the_event_loop(qt, the_application):
    got = []
    qt.QTimer.singleShot(0, lambda: got.append("late"))
    assert got == []
    the_application.processEventsUntil(lambda: got, timeout_s=10)
    assert got == ["late"]


def test_waiting_for_what_never_comes_ends_and_names_the_errors(qt, the_application):
    def fails():
        raise RuntimeError("the reason")

    qt.QTimer.singleShot(0, fails)
    with pytest.raises(TimeoutError, match="the reason"):
        the_application.processEventsUntil(lambda: False, timeout_s=0.2)
    the_application.takeSlotErrors()


def test_settings_belong_to_the_test(qt, the_application):
    settings = qt.QSettings()
    settings.setValue("MedSeg/python", "/usr/bin/python3")
    assert "slicer-stand-in" in settings.fileName()
    the_application.reset()
    assert not qt.QSettings().contains("MedSeg/python")


def test_a_collapsible_button_hides_what_is_below_and_remembers_what_was_hidden(qt, the_application):
    import ctk

    button = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(button)
    shown, hidden, got = qt.QLabel("shown"), qt.QLabel("hidden"), []
    layout.addWidget(shown)
    layout.addWidget(hidden)
    button.show()
    hidden.hide()
    button.connect("contentsCollapsed(bool)", got.append)
    button.collapsed = True
    assert not button.checked
    assert not shown.visible
    button.collapsed = False
    assert shown.visible
    assert not hidden.visible
    assert got == [True, False]


def test_a_slider_widget_rounds_and_tells_of_changes(qt):
    import ctk

    slider, got = ctk.ctkSliderWidget(), []
    slider.minimum, slider.maximum, slider.decimals = -1, 1, 1
    slider.connect("valueChanged(double)", got.append)
    slider.value = 0.26
    assert slider.value == 0.3
    slider.value = 7
    assert got == [0.3, 1.0]


def test_a_path_line_announces_every_acceptable_text(qt):
    import ctk

    edit, paths, valid = ctk.ctkPathLineEdit(), [], []
    edit.nameFilters = ["Images (*.nrrd *.nii)"]
    edit.currentPathChanged.connect(paths.append)
    edit.validInputChanged.connect(valid.append)
    edit.currentPath = "a.txt"
    edit.currentPath = "a.nrrd"
    assert paths == ["a.nrrd"]
    assert valid == [True]
    edit.addCurrentPathToHistory()
    assert edit.comboBox().itemText(0) == "a.nrrd"


def test_an_emptied_path_line_is_invalid_and_announces_no_path(qt):
    import ctk

    edit, paths, valid = ctk.ctkPathLineEdit(), [], []
    edit.currentPathChanged.connect(paths.append)
    edit.validInputChanged.connect(valid.append)
    edit.currentPath = "anything"
    edit.currentPath = ""
    assert paths == ["anything"]
    assert valid == [True, False]


def test_a_shortcut_tells_that_its_key_was_pressed(qt):
    """The list has no signals for it, because it cannot be constructed without a parent."""
    widget, got = qt.QWidget(), []
    shortcut = qt.QShortcut(qt.QKeySequence("a"), widget)
    assert shortcut.connect("activated()", lambda: got.append("connect"))
    assert shortcut.activated.connect(lambda: got.append("signal"))
    shortcut.activated.emit()
    assert got == ["connect", "signal"]
    assert shortcut.disconnect("activated()")
    shortcut.activated()
    assert got == ["connect", "signal"]
    assert not shortcut.connect("nosuch()", got.append)
