"""The picture of a registration: planes in mm, grid lines where the transform puts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import GeometryError
from medseg.preview.registration import grid_lines, write_registration
from medseg.registration.maps import checkerboard
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path

GRID_COLOR = (255, 194, 75)
SHIFT = np.array([6.0, -4.0, 10.0])


def a_volume(orientation: str = "LPS", value: float = 0.5) -> Volume:
    """A bright box of 40 x 60 x 80 mm (R-L, A-P, S-I) in the middle of 80 x 100 x 120 mm, with thick slices."""
    geometry = Geometry.from_spacing((12, 50, 80), (1.0, 2.0, 10.0), orientation="LPS")
    array = np.zeros(geometry.shape, np.float32)
    array[2:10, 10:40, 20:60] = value
    return Volume(array, geometry).reorient(orientation)


def at_rest(points: np.ndarray) -> np.ndarray:
    return points


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return (imread(path)[..., :3] * 255).round().astype(int)


def panes_of(picture: np.ndarray) -> list[np.ndarray]:
    """Return the five columns of a picture."""
    return np.array_split(picture, 5, axis=1)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SAR"])
def test_a_box_is_as_wide_and_high_as_it_is_in_mm(tmp_path: Path, orientation: str) -> None:
    volume = a_volume(orientation)
    path = tmp_path / "p.png"

    write_registration(
        volume, volume, volume, checkerboard(volume, volume), path, where=at_rest, caption=("one", "two")
    )

    picture = pixels(path)
    assert picture.shape[1] == 1440
    bright = panes_of(picture)[2].min(-1) > 120
    starts = np.flatnonzero(np.diff(bright.any(1).astype(int)) == 1)
    ends = np.flatnonzero(np.diff(bright.any(1).astype(int)) == -1)
    assert len(starts) >= 3
    sizes = []
    for start, end in zip(starts[-3:], ends[-3:], strict=True):
        across = np.flatnonzero(bright[(start + end) // 2])
        sizes.append((across[-1] - across[0] + 1) / (end - start))
    # Axial 40 x 60 mm, coronal 40 x 80, sagittal 60 x 80.
    assert sizes == pytest.approx([40 / 60, 40 / 80, 60 / 80], rel=0.08)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_the_lines_lie_where_the_transform_comes_from(plane: int) -> None:
    geometry = a_volume().geometry
    across, down, columns, rows = grid_lines(geometry, plane, (6, 25, 40), lambda points: points + SHIFT)
    first, second = ((0, 1), (0, 2), (1, 2))[plane]
    # In an "LPS" volume the axes run against R and A.
    along = SHIFT * [-1, -1, 1]
    start = 0.5 * np.asarray(geometry.spacing)
    np.testing.assert_allclose(columns - across + start[first], along[first], atol=1e-6)
    height = geometry.extent_mm[second]
    place = down[:, None] if plane == 0 else height - down[:, None]
    np.testing.assert_allclose(rows - place + start[second], along[second], atol=1e-6)
    assert down[0] < down[-1] if plane == 0 else down[0] > down[-1]


def test_the_grid_is_drawn_over_the_fixed_volume_only(tmp_path: Path) -> None:
    volume = a_volume()
    write_registration(volume, volume, volume, checkerboard(volume, volume), tmp_path / "p.png", where=at_rest)
    like = [(np.abs(pane - GRID_COLOR).max(-1) < 60).sum() for pane in panes_of(pixels(tmp_path / "p.png"))]
    assert like[:4] == [0, 0, 0, 0]
    assert like[4] > 1000


def test_a_moving_volume_somewhere_else_is_black_and_said_so(tmp_path: Path) -> None:
    volume = a_volume()
    away = Volume(volume.array, Geometry(volume.shape, volume.geometry.ijk_to_ras + _shift(900)))
    write_registration(volume, away, volume, checkerboard(volume, volume), tmp_path / "p.png", where=at_rest)
    fixed, before = panes_of(pixels(tmp_path / "p.png"))[:2]
    assert (fixed.min(-1) > 200).sum() > 5000
    assert 0 < (before[60:].min(-1) > 100).sum() < 500  # the words


def test_one_slice_and_a_collapsing_transform_still_have_a_picture(tmp_path: Path) -> None:
    flat = Volume(np.random.default_rng(0).normal(size=(1, 30, 40)), Geometry.from_spacing((1, 30, 40), (2, 2, 5)))
    write_registration(
        flat, flat, flat, checkerboard(flat, flat), tmp_path / "p.png", where=lambda points: 0 * points + 3.0
    )
    assert pixels(tmp_path / "p.png").shape[1] == 1440


def test_a_long_caption_goes_on_in_another_line(tmp_path: Path) -> None:
    volume = a_volume()
    heights = []
    for caption in ("short", "one of many words " * 30):
        write_registration(
            volume, volume, volume, checkerboard(volume, volume), tmp_path / "p.png", where=at_rest, caption=(caption,)
        )
        picture = pixels(tmp_path / "p.png")
        heights.append(len(picture))
        assert (picture[-(len(caption) // 150 + 1) * 24 :, -8:] < 60).all(), "no letter reaches the border"
    assert heights[1] > heights[0] + 60


def test_two_grids_are_refused(tmp_path: Path) -> None:
    volume = a_volume()
    other = Volume(volume.array, Geometry.from_spacing(volume.shape, (1.0, 1.0, 10.0)))
    with pytest.raises(GeometryError, match="does not lie on the fixed"):
        write_registration(volume, volume, other, volume, tmp_path / "p.png", where=at_rest)
    assert not list(tmp_path.iterdir())


def _shift(millimetres: float) -> np.ndarray:
    matrix = np.zeros((4, 4))
    matrix[0, 3] = millimetres
    return matrix
