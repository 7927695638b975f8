"""slicer.app, slicer.util, dialogs, packages and data sets as a scripted module meets them."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import slicer


def test_it_starts_without_a_main_window(the_application):
    assert slicer.util.mainWindow() is None
    assert slicer.app.layoutManager() is None
    assert slicer.app.commandOptions().noMainWindow
    assert not slicer.util.showStatusMessage("hello")
    with pytest.raises(RuntimeError, match="main window"):
        slicer.util.selectModule("Volumes")


def test_with_a_main_window_modules_are_selected_and_slices_show_volumes(the_application, a_loaded_module):
    the_application.openMainWindow()
    assert slicer.util.mainWindow().className() == "qSlicerMainWindow"
    assert slicer.util.showStatusMessage("hello")
    slicer.util.selectModule("Small")
    assert slicer.util.selectedModule() == "Small"
    assert slicer.modules.SmallWidget.calls == ["setup", "enter"]
    volume = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5), np.int16))
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    slicer.util.resetSliceViews()
    red = slicer.app.layoutManager().sliceWidget("Red")
    assert red.sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()


def test_a_reset_is_as_good_as_a_new_start(the_application, a_volume):
    the_application.openMainWindow()
    the_application.setTestingEnabled(True)
    a_volume()
    slicer.app.pauseRender()
    the_application.reset()
    assert slicer.util.mainWindow() is None
    assert not slicer.app.testingEnabled()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSelectionNode") == 1
    assert slicer.app.applicationLogic().GetSelectionNode() is not None


def test_logics_of_core_modules_are_real_and_share_the_scene(the_application):
    logic = slicer.modules.volumes.logic()
    assert logic.GetClassName() == "vtkSlicerVolumesLogic"
    assert logic.GetMRMLScene() is slicer.mrmlScene
    assert slicer.app.applicationLogic().GetModuleLogic("Volumes") is logic
    assert slicer.util.getModuleLogic("Segmentations").GetClassName() == "vtkSlicerSegmentationsModuleLogic"
    with pytest.raises(NotImplementedError, match="panel of Volumes"):
        slicer.modules.volumes.widgetRepresentation()
    with pytest.raises(NotImplementedError):
        slicer.modules.welcome.logic()
    with pytest.raises(AttributeError):
        slicer.modules.nosuchmodule  # noqa: B018 - reading it is the test


def test_slicer_util_reaches_segments_through_the_logics(the_application):
    volume = slicer.util.addVolumeFromArray(np.zeros((3, 4, 5), np.int16))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    identifier = node.GetSegmentation().AddEmptySegment("heart")
    mask = np.zeros((3, 4, 5), np.uint8)
    mask[1, 1:3, 2] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, identifier, volume)
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume), mask)


def test_volumes_and_segmentations_are_saved_and_loaded(the_application, tmp_path):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    volume = slicer.util.addVolumeFromArray(array, name="Scan")
    assert slicer.util.saveNode(volume, str(tmp_path / "scan.nrrd"))
    again = slicer.util.loadVolume(str(tmp_path / "scan.nrrd"), {"name": "Again"})
    assert again.GetName() == "Again"
    assert np.array_equal(slicer.util.arrayFromVolume(again), array)
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadVolume(str(tmp_path / "nothing.nrrd"))


def test_rendering_is_paused_and_resumed(the_application):
    states = []
    slicer.app.connect("renderPaused(bool)", states.append)
    with slicer.util.RenderBlocker(), slicer.util.RenderBlocker():
        assert states == [True]
    assert states == [True, False]
    assert slicer.app.disconnect("renderPaused(bool)")


def test_the_wait_cursor_is_removed_when_something_fails(the_application):
    with pytest.raises(KeyError), slicer.util.tryWithErrorDisplay("Failed.", waitCursor=True):
        raise KeyError("x")
    assert slicer.app.overrideCursor() is None


def test_temporary_folders_are_made_and_processes_get_an_environment(the_application):
    folder = Path(slicer.util.tempDirectory())
    assert folder.is_dir()
    assert Path(slicer.app.temporaryPath) in folder.parents
    assert slicer.util.startupEnvironment()["PATH"] == os.environ["PATH"].partition(os.pathsep)[2]
    process = slicer.util.launchConsoleProcess([shutil.which("PythonSlicer"), "-c", "print(1 + 1)"])
    output, _error = process.communicate()
    assert output.strip() == "2"


def test_python_slicer_is_this_python(the_application):
    import sys

    code = "import sys; print(sys.prefix)"
    output = subprocess.run(["PythonSlicer", "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == sys.prefix


def test_messages_are_recorded_and_questions_need_an_answer(the_application, caplog):
    from slicer_app.dialogs import UnansweredQuestion

    with caplog.at_level(logging.INFO):
        slicer.util.infoDisplay("saved")
        slicer.util.errorDisplay("lost", detailedText="why")
    assert [(m.kind, m.text, m.details, m.shown) for m in the_application.messages] == [
        ("info", "saved", "", False),
        ("error", "lost", "why", False),
    ]
    assert "lost" in caplog.text
    with pytest.raises(UnansweredQuestion, match="really"):
        slicer.util.confirmYesNoDisplay("really?")
    the_application.answer(True, False, False)
    assert slicer.util.confirmYesNoDisplay("really?")
    assert not slicer.util.confirmOkCancelDisplay("sure?")
    assert not slicer.util.confirmRetryCloseDisplay("again?")


def test_in_testing_mode_nothing_is_asked_or_shown(the_application):
    the_application.setTestingEnabled(True)
    # Slicer's documentation says True; its code compares True with the number of the button and returns False.
    assert not slicer.util.confirmOkCancelDisplay("sure?")
    assert not slicer.util.confirmRetryCloseDisplay("again?")
    slicer.util.errorDisplay("lost")
    assert not any(m.shown for m in the_application.messages)


def test_dialogs_of_qt_are_answered_by_the_test(the_application):
    import ctk
    import qt

    the_application.answer("/a/volume.nrrd", "a name", qt.QMessageBox.No, True)
    assert qt.QFileDialog.getOpenFileName(None, "Open", "", "*.nrrd")[0] == "/a/volume.nrrd"
    assert qt.QInputDialog.getText(None, "Name", "Name:")[0] == "a name"
    assert qt.QMessageBox.question(None, "Delete", "Delete it?") == qt.QMessageBox.No
    box = ctk.ctkMessageBox()
    box.text = "Continue?"
    box.standardButtons = qt.QMessageBox.Ok | qt.QMessageBox.Cancel
    assert box.exec_() == qt.QMessageBox.Ok
    assert [m.kind for m in the_application.messages] == ["file", "input", "question", "question"]


def test_a_dialog_may_be_answered_by_a_function(the_application):
    import qt

    dialog = qt.QDialog()
    edit = qt.QLineEdit(dialog)

    def fill(shown):
        shown.findChild(qt.QLineEdit).text = "typed"
        return 1

    the_application.answer(fill)
    assert dialog.exec_() == 1
    assert edit.text == "typed"


def test_packages_are_checked_and_never_installed(the_application):
    packaging = slicer.packaging
    assert packaging.pip_check("numpy>=1.0")
    assert packaging.pip_check(["numpy", "no-such-package; python_version < '3'"])
    assert not packaging.pip_check("numpy>=1000")
    assert not packaging.pip_check("no-such-package")
    assert packaging.pip_ensure("numpy", requester="MedSeg") is None
    assert the_application.messages == []
    the_application.answer(True)
    packaging.pip_ensure(["no-such-package>=1", "numpy"], requester="MedSeg")
    (question,) = the_application.messages
    assert question.title == "MedSeg - Install Python Packages"
    assert question.details == "- no-such-package>=1"
    assert the_application.installations == [["no-such-package>=1"]]
    the_application.answer(False)
    with pytest.raises(RuntimeError, match="User declined"):
        packaging.pip_ensure("no-such-package")
    the_application.setTestingEnabled(True)
    packaging.pip_ensure("no-such-package")  # is skipped
    assert len(the_application.installations) == 1


def test_requirements_are_read_from_files(the_application, tmp_path):
    (tmp_path / "requirements.txt").write_text("# comment\n-r other.txt\n\nnumpy>=1.26\nmonai ; python_version > '3'\n")
    names = [r.name for r in slicer.packaging.load_requirements(tmp_path / "requirements.txt")]
    assert names == ["numpy", "monai"]
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["torch>=2"]\n')
    assert str(slicer.packaging.load_pyproject_dependencies(tmp_path / "pyproject.toml")[0]) == "torch>=2"
    (tmp_path / "pyproject.toml").write_text("[tool.x]\n")
    with pytest.raises(KeyError, match=r"no \[project\]"):
        slicer.packaging.load_pyproject_dependencies(tmp_path / "pyproject.toml")


def test_data_sets_are_registered_once_and_loaded_when_they_are_what_they_should_be(the_application, tmp_path):
    import SampleData

    volume = slicer.util.addVolumeFromArray(np.ones((2, 3, 4), np.int16))
    assert slicer.util.saveNode(volume, str(tmp_path / "ones.nrrd"))
    digest = hashlib.sha256((tmp_path / "ones.nrrd").read_bytes()).hexdigest()

    def register(name: str, checksum: str) -> None:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="MedSeg",
            sampleName=name,
            uris=(tmp_path / "ones.nrrd").as_uri(),
            fileNames=f"{name}.nrrd",
            nodeNames=name,
            checksums=f"SHA256:{checksum}",
        )

    register("Good", digest)
    register("Good", digest)
    register("Bad", "0" * 64)
    assert [s.sampleName for s in slicer.modules.sampleDataSources["MedSeg"]] == ["Good", "Bad"]
    assert SampleData.downloadSample("Good").GetName() == "Good"
    with pytest.raises(ValueError, match="not the file"):
        SampleData.downloadSample("Bad")
    assert not (Path(slicer.app.cachePath) / "Bad.nrrd").exists()


def test_texts_are_translated_to_themselves(the_application):
    from slicer.i18n import getContext, tr, translate

    assert tr("Apply {name}").format(name="x") == "Apply x"
    assert translate("MedSeg", "Apply") == "Apply"
    assert getContext(__file__) == "test_application"


def test_quitting_is_noticed(the_application):
    with pytest.raises(SystemExit, match="status 3"):
        slicer.util.exit(3)


def test_threads_of_a_module_stand_still_while_the_main_thread_is_inside_qt(the_application):
    from slicer_app import event_loop

    if event_loop._with_lock(event_loop.EXEC) is None:
        pytest.skip("Qt's event loop can be entered only through PySide6 on this system")
    steps, stop = [0], threading.Event()

    def count():
        while not stop.wait(0.001):
            steps[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = steps[0]
    event_loop.run(500)
    moved = steps[0] - before
    stop.set()
    thread.join()
    assert moved < 50, "with the lock given away it is some hundred"
