"""The method "model": which package is taken, what its network sees, and how its field is refined."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg.errors import InputError, ModelError
from medseg.models import ModelLibrary, Preprocessing, ScalePercentiles, load_network, read_package
from medseg.progress import NO_PROGRESS
from medseg.registration import METHODS, RegistrationOptions, SpatialTransform, deformation, register
from medseg.registration.deformation import deform
from medseg.registration.instance import Objective, refine_field
from medseg.registration.models import DEFAULT_MODEL, registration_package
from medseg.registration.working_grid import working_pair
from medseg.volumes import Geometry, Volume
from support.packages import write_bright_blob_package
from support.registration import a_head, a_smooth_warp, inner_points, moved
from support.registration_packages import LAPIRN, VOXELMORPH, write_registering_package


@pytest.fixture(scope="module")
def a_pair() -> tuple[Volume, Volume]:
    """A small head and the same head warped."""
    head = a_head((30, 36, 32), (5.0, 5.0, 5.0))
    return head, moved(head, a_smooth_warp(head.geometry, 7.0))


@pytest.fixture(scope="module")
def lapirn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_registering_package(tmp_path_factory.mktemp("lapirn") / "any-register", LAPIRN)


@pytest.fixture(scope="module")
def voxelmorph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_registering_package(tmp_path_factory.mktemp("voxelmorph") / "any-register", VOXELMORPH)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder of the user's models, and no bundled ones."""
    monkeypatch.setenv("MEDSEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MEDSEG_RESOURCES", str(tmp_path / "resources"))
    (tmp_path / "home" / "models").mkdir(parents=True)
    return tmp_path / "home" / "models"


def found(pair: tuple[Volume, Volume], package: Path, alignment: SpatialTransform | None = None, **options: Any) -> Any:
    """Deform without the seconds that an alignment takes."""
    chosen = RegistrationOptions("model", model=str(package), device="cpu", **options)
    alignment = alignment or SpatialTransform()
    return deform(*pair, alignment, chosen, package=read_package(package), progress=NO_PROGRESS)


def by_hand(pair: tuple[Volume, Volume], folder: Path, smoothness: float = 0.4) -> np.ndarray:
    """Return the field of one pass on the package's grid, (k, j, i, 3) RAS mm."""
    package = read_package(folder)
    working = working_pair(*pair, SpatialTransform(), spacing_mm=8.0, multiple=16, preprocessing=package.preprocessing)
    with torch.no_grad():
        displacement = load_network(package)(working.fixed, working.moving, smoothness)
    return working.field(displacement).vectors


def test_the_methods_are_in_order() -> None:
    assert METHODS == ("rigid", "affine", "lapirn", "field", "model")


@pytest.mark.parametrize("which", ["lapirn", "voxelmorph"])
def test_without_refinement_it_is_one_pass_of_the_network_on_its_grid(
    a_pair: tuple[Volume, Volume], which: str, request: pytest.FixtureRequest
) -> None:
    package = request.getfixturevalue(which)
    result = found(a_pair, package, refine="none")
    np.testing.assert_allclose(result.field.vectors, by_hand(a_pair, package), atol=1e-4)
    assert np.abs(result.field.vectors).max() > 0.2
    assert result.start == "trained weights of Anything version 1.2.3"
    assert len(result.losses) == 1
    np.testing.assert_allclose(result.field.geometry.spacing, 8.0)


def test_a_whole_registration_says_which_start_it_used_and_warps(a_pair: tuple[Volume, Volume], lapirn: Path) -> None:
    options = RegistrationOptions("model", refine="none", model=str(lapirn), device="cpu")
    network = load_network(read_package(lapirn))
    before = copy.deepcopy(network.state_dict())
    result = register(*a_pair, options, network=network)
    assert result.start == "trained weights of Anything version 1.2.3"
    assert result.field is not None
    assert result.warped.geometry == a_pair[0].geometry
    assert result.quality.deformation is not None
    assert set(result.timings) == {"alignment", "deformation", "measuring"}
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_smoothness_asked_for_reaches_a_network_that_heeds_it(a_pair: tuple[Volume, Volume], lapirn: Path) -> None:
    stiff = found(a_pair, lapirn, refine="none", objective=Objective(smoothness=0.9))
    np.testing.assert_allclose(stiff.field.vectors, by_hand(a_pair, lapirn, 0.9), atol=1e-4)
    assert not np.allclose(stiff.field.vectors, by_hand(a_pair, lapirn, 0.4), atol=1e-3)
    assert stiff.notices == ()


def test_a_network_for_one_smoothness_says_so(a_pair: tuple[Volume, Volume], voxelmorph: Path) -> None:
    stiff = found(a_pair, voxelmorph, refine="none", objective=Objective(smoothness=0.9))
    assert "trained for a smoothness of 0.4" in stiff.notices[0]
    assert found(a_pair, voxelmorph, refine="none").notices == ()


def test_the_network_sees_its_own_axes_whatever_those_of_the_volume(
    a_pair: tuple[Volume, Volume], lapirn: Path
) -> None:
    plain = found(a_pair, lapirn, refine="none").field
    turned = found(tuple(volume.reorient("PSL") for volume in a_pair), lapirn, refine="none").field
    points = inner_points(a_pair[0].geometry)
    one, other = (SpatialTransform((field,)).apply(points) for field in (plain, turned))
    np.testing.assert_allclose(one, other, atol=0.05)
    assert np.abs(one - points).max() > 0.3


def test_the_working_grid_of_a_model_has_its_axes_and_intensities(a_pair: tuple[Volume, Volume]) -> None:
    section = Preprocessing("LPI", (8.0, 8.0, 6.0), (ScalePercentiles(5, 90, 0, 1, clip=True),))
    pair = working_pair(*a_pair, SpatialTransform(), spacing_mm=(8.0, 8.0, 6.0), multiple=16, preprocessing=section)
    assert pair.geometry.orientation == "LPI"
    np.testing.assert_allclose(pair.geometry.spacing, (8.0, 8.0, 6.0))
    k, j, i = pair.unpadded
    inside = pair.fixed[0, 0, i, j, k]
    assert inside.min() == 0
    assert inside.max() == 1
    assert float((inside == 1).float().mean()) == pytest.approx(0.1, abs=0.02)


def test_a_network_with_levels_is_refined_by_its_weights(
    a_pair: tuple[Volume, Volume], lapirn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(deformation.NETWORK_ITERATIONS, "quick", (3, 2, 1))
    result = found(a_pair, lapirn, refine="quick", refine_by="weights")
    assert len(result.losses) == 1 + 6 + 1
    plain = found(a_pair, lapirn, refine="none")
    assert result.losses[0] == pytest.approx(plain.losses[0])
    assert min(result.losses) < result.losses[0]
    assert result.start.startswith("trained weights")


@pytest.mark.parametrize(("levels", "iterations"), [(1, [1]), (2, [2, 1]), (4, [3, 3, 2, 1])])
def test_the_counts_of_a_refinement_follow_the_levels_of_the_network(
    a_pair: tuple[Volume, Volume], levels: int, iterations: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(deformation.NETWORK_ITERATIONS, "quick", (3, 2, 1))
    target, arguments = LAPIRN
    package = write_registering_package(tmp_path / "any-register", (target, {**arguments, "levels": levels}))
    plain = found(a_pair, package, refine="none")
    assert len(plain.losses) == 1
    refined = found(a_pair, package, refine="quick", refine_by="weights")
    assert len(refined.losses) == 1 + sum(iterations) + 1
    assert refined.losses[0] == pytest.approx(plain.losses[0])


def test_a_small_pair_gets_a_grid_on_which_the_coarsest_level_sees_more_than_a_voxel(
    a_pair: tuple[Volume, Volume], tmp_path: Path
) -> None:
    target, arguments = LAPIRN
    package = write_registering_package(tmp_path / "any-register", (target, {**arguments, "levels": 4}))
    field = found(a_pair, package, refine="none", spacing_mm=12.0).field
    assert max(field.geometry.size) <= 16  # less than the 32 voxels that the network takes at least
    assert np.abs(field.vectors).max() > 0.2


@pytest.mark.parametrize(("which", "by"), [("voxelmorph", "auto"), ("lapirn", "auto"), ("lapirn", "field")])
def test_the_field_of_a_network_is_refined_from_where_the_network_ends(
    a_pair: tuple[Volume, Volume], which: str, by: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(deformation.FIELD_ITERATIONS, "quick", (2, 2, 2))
    package = request.getfixturevalue(which)
    result = found(a_pair, package, refine="quick", refine_by=by)
    assert len([loss for loss in result.losses if math.isfinite(loss)]) == 1 + 6 + 1
    assert result.losses[0] == pytest.approx(found(a_pair, package, refine="none").losses[0])
    assert result.losses[-1] < result.losses[0]


def test_a_coarse_search_keeps_the_detail_of_its_start(a_pair: tuple[Volume, Volume]) -> None:
    pair = working_pair(*a_pair, SpatialTransform(), spacing_mm=8.0, multiple=16)
    detail = 0.5 * torch.randn(1, 3, *pair.fixed.shape[2:], generator=torch.Generator().manual_seed(0))
    refined = refine_field(detail, pair, Objective(smoothness=0.0), iterations=(5, 0, 0)).displacement
    bend_of_change, bend_of_start = (torch.diff(one, n=2).abs().mean() for one in (refined - detail, detail))
    assert bend_of_change < 0.3 * bend_of_start
    assert not torch.equal(refined, detail)


def test_weights_without_levels_cannot_be_refined(a_pair: tuple[Volume, Volume], voxelmorph: Path) -> None:
    with pytest.raises(InputError, match="its network has no levels"):
        found(a_pair, voxelmorph, refine="quick", refine_by="weights")


def test_a_volume_too_large_for_the_model_is_worked_on_more_coarsely_and_the_user_is_told(lapirn: Path) -> None:
    huge = Volume(np.zeros((2, 2, 2), np.float32), Geometry.from_spacing((2, 2, 2), (500.0, 500.0, 500.0)))
    package = read_package(lapirn)
    spacing, notice = deformation._spacing_for(package, huge, RegistrationOptions("model", refine="quick"))
    assert spacing[0] == pytest.approx(1000 / 96)
    assert "voxels of 10 mm instead of 8" in notice
    assert deformation._spacing_for(package, huge, RegistrationOptions("model", refine="none"))[1] == ""
    assert deformation._spacing_for(package, huge, RegistrationOptions("model", spacing_mm=20.0)) == ((20.0,) * 3, "")


# Which model


def test_without_any_model_the_user_is_told_before_anything_takes_time(
    a_pair: tuple[Volume, Volume], nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.registration.pipeline.align", lambda *_, **__: pytest.fail("aligned already"))
    with pytest.raises(InputError, match="No model that registers is installed") as caught:
        register(*a_pair, RegistrationOptions("model"))
    assert "lapirn" in str(caught.value.advice)


def test_the_only_model_that_registers_is_the_default_and_of_several_the_one_of_its_name(
    nothing_installed: Path,
) -> None:
    write_bright_blob_package(nothing_installed / "bright-blob")
    write_registering_package(nothing_installed / "any-register")
    assert registration_package().name == "any-register"
    write_registering_package(nothing_installed / "other-register", name="other-register")
    with pytest.raises(InputError, match="several models that register") as caught:
        registration_package()
    assert "any-register, other-register" in str(caught.value.advice)
    write_registering_package(nothing_installed / DEFAULT_MODEL, name=DEFAULT_MODEL)
    assert registration_package().name == DEFAULT_MODEL
    assert registration_package("other-register").name == "other-register"


def test_a_model_that_segments_is_refused(nothing_installed: Path) -> None:
    write_bright_blob_package(nothing_installed / "bright-blob")
    with pytest.raises(ModelError, match="is there to segment and cannot register"):
        registration_package("bright-blob", ModelLibrary([nothing_installed]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "affine", "model": "any-register"}, "The method affine takes no model"),
        ({"method": "model", "refine_by": "magic"}, "nothing called 'magic' to refine"),
        ({"method": "field", "refine": "none"}, "no trained weights"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        RegistrationOptions(**options)


def test_the_other_methods_say_where_they_begin(a_pair: tuple[Volume, Volume], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(deformation.NETWORK_ITERATIONS, "quick", (1, 0, 0))
    monkeypatch.setitem(deformation.FIELD_ITERATIONS, "quick", (1, 0, 0))
    starts = {
        method: deform(
            *a_pair,
            SpatialTransform(),
            RegistrationOptions(method, device="cpu", spacing_mm=10.0),
            progress=NO_PROGRESS,
        ).start
        for method in ("lapirn", "field")
    }
    assert starts == {"lapirn": "fresh weights", "field": "no network"}
