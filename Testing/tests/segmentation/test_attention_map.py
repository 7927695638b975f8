"""Where a network looks from a point: the weights lie in the world where the network saw them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from medseg import networks
from medseg.errors import Cancelled, InputError, ModelError
from medseg.models import ModelPackage, load_network, read_package
from medseg.networks.attention_row import AttentionRow
from medseg.progress import Progress
from medseg.segmentation.attention_map import attention_row, shows_attention
from medseg.volumes import Geometry, Volume
from support.attention import write_attending_package
from support.grids import geometries

if TYPE_CHECKING:
    from pathlib import Path


class Brightness(nn.Module):
    """Looks at every second voxel in proportion to its brightness, so that the test knows what must come out."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.Tensor, tuple[int, int, int]]] = []

    def attention_row(self, image: torch.Tensor, voxel: tuple[int, int, int]) -> AttentionRow:
        self.seen.append((image, voxel))
        part = image[0, 0, ::2, ::2, ::2]
        return AttentionRow(part / part.sum(), (2, 2, 2), (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return read_package(write_attending_package(tmp_path_factory.mktemp("models") / "attending"))


def an_image(geometry: Geometry, seed: int = 0) -> Volume:
    values = np.random.default_rng(seed).uniform(10, 300, geometry.shape)
    return Volume(values.astype(np.float32), geometry, name="scan", modality="MR")


def test_the_weights_sum_to_one_on_every_eighth_voxel_of_the_window(package: ModelPackage) -> None:
    geometry = Geometry.from_spacing((24, 16, 40), (1.0, 1.5, 2.0), (10.0, -5.0, 3.0))
    point = geometry.ijk_to_ras_points((17, 3, 20))
    found = attention_row([an_image(geometry)], package, point, device="cpu")
    volume = found.volume
    assert volume.shape == (4, 4, 4)
    assert volume.array.dtype == np.float32
    assert volume.array.sum() == pytest.approx(1.0, abs=1e-5)
    assert volume.geometry.spacing == pytest.approx((8.0, 12.0, 16.0))
    # A window of 32 cubed begins at 0 of 40, and 8 and 4 voxels before an axis of 16 and 24; a weight stands for 8
    # voxels, whose middle is 3.5 behind the first.
    np.testing.assert_allclose(volume.geometry.origin, geometry.ijk_to_ras_points((3.5, -4.5, -0.5)), atol=1e-6)
    assert (volume.name, found.kind) == ("scan attention", "attention")
    assert found.notices[0].startswith("Derived, not measured")
    assert "The 64 weights sum to 1; each would be 0.0156" in found.notices[0]
    assert found.model["weights_sha256"] == package.weights_sha256


def test_they_are_those_that_the_network_gives_for_the_prepared_window(package: ModelPackage) -> None:
    geometry = Geometry.from_spacing((32, 32, 32))
    image, network = an_image(geometry), load_network(package)
    found = attention_row([image], package, (17.2, 2.8, 20.0), device="cpu", network=network)
    prepared = package.preprocessing.apply_intensity(image.array).transpose(2, 1, 0).copy()
    with torch.inference_mode():
        row = network.attention_row(torch.from_numpy(prepared)[None, None], (17, 3, 20))
    np.testing.assert_allclose(found.volume.array, row.weights.numpy().transpose(2, 1, 0), atol=1e-6)
    elsewhere = attention_row([image], package, (1.0, 12.0, 2.0), device="cpu", network=network)
    assert not np.allclose(elsewhere.volume.array, found.volume.array, atol=1e-6)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(geometries(largest=14), st.data())
def test_a_weight_lies_on_the_voxel_that_it_is_of(
    package: ModelPackage, geometry: Geometry, data: st.DataObject
) -> None:
    geometry = Geometry(tuple(max(size, 8) for size in geometry.shape), geometry.ijk_to_ras)
    image, network = an_image(geometry), Brightness()
    voxel = tuple(data.draw(st.integers(0, size - 1)) for size in geometry.size)
    found = attention_row([image], package, geometry.ijk_to_ras_points(voxel), device="cpu", network=network)
    window, looked_from = network.seen[0]
    # The network was asked from the voxel that was clicked ...
    own = package.preprocessing.apply_intensity(image.array)
    assert window[(0, 0, *looked_from)].item() == pytest.approx(float(own[voxel[::-1]]), abs=1e-5)
    # ... and every weight inside the image is the brightness at its own place in the world.
    k, j, i = np.indices(found.volume.shape).reshape(3, -1)
    points = found.volume.geometry.ijk_to_ras_points(np.stack([i, j, k], axis=1))
    index = np.rint(geometry.ras_to_ijk_points(points)).astype(int)
    inside = ((index >= 0) & (index < np.asarray(geometry.size))).all(axis=1)
    assert inside.any()
    np.testing.assert_allclose(geometry.ras_to_ijk_points(points)[inside], index[inside], atol=1e-4)
    expected = own[tuple(index[inside, ::-1].T)]
    found_there = found.volume.array.reshape(-1)[inside]
    np.testing.assert_allclose(found_there * expected.sum(), expected * found_there.sum(), rtol=1e-4, atol=1e-6)


def test_of_a_large_image_the_window_around_the_point_is_shown(package: ModelPackage) -> None:
    geometry = Geometry.from_spacing((16, 16, 100))
    image, network = an_image(geometry), Brightness()
    found = attention_row([image], package, (70.0, 8.0, 8.0), device="cpu", network=network)
    window, voxel = network.seen[0]
    assert tuple(window.shape[2:]) == package.window.size_ijk == (32, 32, 32)
    # Windows begin at 0, 16, 32, 48, 64 and 68; the one that begins at 48 has 70 nearest to its middle, 63.5 ...
    # but the one at 64 has its middle at 79.5.
    assert voxel == (22, 16, 16)
    assert found.volume.geometry.origin[0] == pytest.approx(48.0)


def test_a_sheared_image_is_looked_at_on_a_grid_with_right_angles(package: ModelPackage) -> None:
    matrix = np.eye(4)
    matrix[1, 2] = 0.4
    image, network = an_image(Geometry((20, 16, 16), matrix)), Brightness()
    found = attention_row([image], package, matrix @ (4, 6, 10, 1) @ np.eye(4, 3), device="cpu", network=network)
    window, voxel = network.seen[0]
    assert not found.volume.geometry.is_sheared
    own = package.preprocessing.apply_intensity(image.array)
    assert window[(0, 0, *voxel)].item() == pytest.approx(float(own[10, 6, 4]), abs=1e-4)


def test_a_resampled_grid_is_allowed_for(tmp_path: Path) -> None:
    finer = read_package(write_attending_package(tmp_path / "finer", spacing=(0.5, 1.0, 2.0)))
    geometry = Geometry.from_spacing((16, 16, 16), (1.0, 1.0, 1.0), orientation="LPS")
    network = Brightness()
    attention_row([an_image(geometry)], finer, (-15.49, -3.0, 4.0), device="cpu", network=network)
    window, (i, j, _k) = network.seen[0]
    assert tuple(window.shape[2:]) == (32, 32, 32)
    # In RAS order the point lies at the left end and 3 mm from the front; 8 voxels of padding lie before the image.
    assert (i, j) == (0, 8 + 12)


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ((1.0, 2.0), "three numbers"),
        ("north", "three numbers"),
        ((1.0, 2.0, float("nan")), "three numbers"),
        ((16.0, 2.0, 3.0), "outside the volume"),
        ((-0.6, 2.0, 3.0), "outside the volume"),
    ],
)
def test_a_point_that_is_none_is_refused(package: ModelPackage, point: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        attention_row([an_image(Geometry.from_spacing((16, 16, 16)))], package, point, device="cpu")


def test_a_point_at_the_very_edge_belongs_to_the_outermost_voxel(package: ModelPackage) -> None:
    network = Brightness()
    image = an_image(Geometry.from_spacing((32, 32, 32)))
    attention_row([image], package, (-0.5, 31.5, 31.4), device="cpu", network=network)
    assert network.seen[0][1] == (0, 31, 31)


def test_a_model_that_cannot_tell_is_refused(package: ModelPackage, bright_blob_package: Path, tmp_path: Path) -> None:
    image = an_image(Geometry.from_spacing((16, 16, 16)))
    other = read_package(bright_blob_package)
    without = read_package(write_attending_package(tmp_path / "without", position_attention=False))
    assert [shows_attention(one) for one in (package, other, without)] == [True, False, False]
    for one in (other, without):
        with pytest.raises(ModelError, match="cannot tell where it looks"):
            attention_row([image], one, (1.0, 2.0, 3.0), device="cpu")


def test_the_number_of_volumes_is_checked(package: ModelPackage) -> None:
    image = an_image(Geometry.from_spacing((16, 16, 16)))
    with pytest.raises(InputError, match="takes 1 volumes, and 2 were given"):
        attention_row([image, image], package, (1.0, 2.0, 3.0), device="cpu")


def test_it_can_be_cancelled(package: ModelPackage) -> None:
    progress = Progress(lambda _fraction, _text: None, lambda: True)
    with pytest.raises(Cancelled):
        attention_row(
            [an_image(Geometry.from_spacing((16, 16, 16)))], package, (1, 2, 3), device="cpu", progress=progress
        )


def test_every_network_that_can_tell_is_known_without_loading_it() -> None:
    able = {
        f"medseg.networks.{name}"
        for name in networks.__all__
        if isinstance(getattr(networks, name), type) and hasattr(getattr(networks, name), "attention_row")
    }
    from medseg.segmentation import attention_map

    assert able == set(attention_map._SHOWING)
