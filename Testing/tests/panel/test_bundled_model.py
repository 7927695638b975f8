"""The module's own test with the model that comes with MedSeg, and the end of the worker with the module."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING, Any

import pytest

from support.processes import workers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def the_module_as_installed(application: Any, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module with the models of the repository."""
    monkeypatch.delenv("MEDSEG_RESOURCES", raising=False)
    yield application.loadModule(repository / "MedSegExtension" / "MedSeg" / "MedSeg.py")
    application.reset()


def test_the_bundled_model_segments_the_synthetic_heart_in_the_modules_own_test(
    the_module_as_installed: Any, application: Any
) -> None:
    # A worker or training of a test before may be about to end.
    others = workers()
    case = the_module_as_installed.source.MedSegTest
    result = unittest.TestResult()
    for name in ("test_AVolumeBecomesASegmentation", "test_ARunIsCancelled", "test_TheSceneIsClosedDuringARun"):
        case(name).run(result)
    assert result.wasSuccessful(), result.failures + result.errors
    assert result.testsRun == 3
    assert [message for message in application.messages if message.shown] == []
    of_this_module = workers().keys() - others.keys()
    assert of_this_module

    the_module_as_installed.unload()
    application.processEventsUntil(lambda: not of_this_module & workers().keys(), 30.0)


@pytest.mark.parametrize("testing", [True, False], ids=["testing", "not testing"])
def test_a_failure_opens_no_dialog_with_a_main_window(
    application: Any, repository: Path, a_user_folder_of_its_own: Path, testing: bool
) -> None:
    """A run may fail minutes after the button was pressed: the sentence is in the panel, not in the user's way."""
    application.openMainWindow()
    application.setTestingEnabled(testing)
    widget = application.loadModule(repository / "MedSegExtension" / "MedSeg" / "MedSeg.py").widget
    try:
        widget.ui.pythonPathLineEdit.currentPath = str(a_user_folder_of_its_own / "no-python")
        widget.ui.sampleButton.click()
        application.processEventsUntil(lambda: widget.ui.segmentButton.enabled)
        widget.ui.segmentButton.click()
        assert "There is no Python" in widget.ui.statusLabel.text
        assert [message for message in application.messages if message.shown] == []
    finally:
        application.reset()
