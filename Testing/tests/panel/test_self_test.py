"""The test in the module's own file, as Slicer's Self Tests and ``slicer_add_python_unittest`` run it."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def the_self_test(the_module: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MedSegTest with the small model of the tests, which finds bright voxels but knows no heart."""
    case = the_module.source.MedSegTest
    monkeypatch.setattr(case, "modelName", "bright-blob")
    monkeypatch.setattr(case, "minimumDice", 0.1)
    return case


def run(case: Any, *names: str) -> unittest.TestResult:
    result = unittest.TestResult()
    names = names or tuple(unittest.TestLoader().getTestCaseNames(case))
    unittest.TestSuite(case(name) for name in names).run(result)
    return result


def problems(result: unittest.TestResult) -> str:
    return "\n".join(text for _test, text in result.failures + result.errors)


def test_the_self_test_passes_through_slicers_self_tests(the_self_test: Any, the_module: Any) -> None:
    the_module.runTest()


def test_every_part_of_the_panel_has_its_run(the_self_test: Any) -> None:
    assert set(unittest.TestLoader().getTestCaseNames(the_self_test)) == {
        "test_AVolumeBecomesASegmentation",
        "test_ARunIsCancelled",
        "test_TheSceneIsClosedDuringARun",
        "test_ASegmentIsSplitIntoInstances",
        "test_ACorrectedCaseIsAddedToATrainingFolder",
        "test_TwoVolumesAreRegistered",
        "test_ThickLabelsBecomeThin",
        "test_AModelIsTrainedAndInstalled",
    }


def test_it_fails_clearly_when_the_result_is_wrong(
    the_self_test: Any, the_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_self_test, "minimumDice", 0.999)
    result = run(the_self_test, "test_AVolumeBecomesASegmentation")
    assert len(result.failures) == 1
    assert "synthetic heart" in problems(result)
    monkeypatch.setattr(the_self_test, "modelName", "no-such-model")
    with pytest.raises(AssertionError, match="the model is not installed"):
        the_module.runTest()


def test_only_the_training_is_skipped_where_its_packages_are_absent(
    the_self_test: Any, the_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dependencies = the_module.source.dependencies
    monkeypatch.setattr(
        dependencies, "missingPackages", lambda names=(): ["lightning"] if names == dependencies.TRAINING else []
    )
    result = run(the_self_test, "test_AModelIsTrainedAndInstalled")
    assert [reason for _test, reason in result.skipped] == ["Slicer's Python lacks lightning"]


def test_it_is_skipped_where_torch_is_absent(
    the_self_test: Any, the_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_module.source.dependencies, "missingPackages", lambda *_: ["torch"])
    result = run(the_self_test)
    assert len(result.skipped) == len(unittest.TestLoader().getTestCaseNames(the_self_test))
    assert result.wasSuccessful()
    the_module.runTest()
