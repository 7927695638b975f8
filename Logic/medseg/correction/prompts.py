"""What a user points at: points, scribbles, boxes and lassos in RAS mm, as JSON lists them, and their voxels."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from medseg.errors import InputError, ReadError

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.volumes import Geometry

PromptKind = Literal["point", "scribble", "box", "lasso"]
KINDS: tuple[PromptKind, ...] = get_args(PromptKind)

Plane = Literal["sagittal", "coronal", "axial"]
PLANES: tuple[Plane, ...] = get_args(Plane)
"""Slices across R, A and S, in this order."""

_COUNTS: dict[PromptKind, tuple[int, int | None, str]] = {
    "point": (1, 1, "one place"),
    "scribble": (1, None, "at least one place"),
    "box": (2, 2, "two opposite corners"),
    "lasso": (3, None, "at least three places"),
}
_MOST_PLACES = 100_000
_STEP_VOXELS = 0.5
_FARTHEST_MM = 1e5


@dataclass(frozen=True, eq=False)
class Prompt:
    """One thing that the user pointed at.

    Attributes
    ----------
    kind
        "point"; "scribble", a line through its places; "box", whose edges run along R, A and S; "lasso", a closed curve
        in a plane.
    ras
        (N, 3) float64, RAS mm.
    positive
        Whether it belongs to the segment. A positive box holds the segment, or the part of it that is to be corrected,
        and need not be full. Nothing in a negative box belongs to the segment.
    plane
        The slices in which it was seen, one of :data:`PLANES`; for tools that work in slices. ``None``: not known.

    Raises
    ------
    InputError
        When the kind or the plane does not exist, or the places are not as many as it takes, or not finite.
    """

    kind: PromptKind
    ras: np.ndarray
    positive: bool = True
    plane: Plane | None = None

    def __post_init__(self) -> None:
        check_plane(self.plane)
        if self.kind not in KINDS:
            raise InputError(f"There is no prompt '{self.kind}'.", advice=f"Use one of {', '.join(KINDS)}.")
        least, most, words = _COUNTS[self.kind]
        try:
            places = np.array(self.ras, np.float64)
        except (TypeError, ValueError, OverflowError):
            places = np.empty(0)
        places = places[None] if places.shape == (3,) else places
        is_shaped = places.ndim == 2 and places.shape[1:] == (3,) and least <= len(places) <= (most or _MOST_PLACES)
        if not is_shaped or not (np.abs(places) <= _FARTHEST_MM).all():
            raise InputError(
                f"A {self.kind} takes {words}, each of three finite numbers.", advice="Give R, A, S in mm."
            )
        places.flags.writeable = False
        object.__setattr__(self, "ras", places)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prompt):
            return NotImplemented
        mine, theirs = ((one.kind, one.positive, one.plane) for one in (self, other))
        return mine == theirs and np.array_equal(self.ras, other.ras)

    def __hash__(self) -> int:
        return hash((self.kind, self.positive, self.plane, self.ras.tobytes()))

    @classmethod
    def from_dict(cls, given: Any) -> Prompt:
        """Return the prompt of an entry of a list, ``{"type": ..., "ras": ..., "positive": ...}``.

        Raises
        ------
        InputError
            When a key is missing, unknown or of the wrong kind.
        """
        if not isinstance(given, dict) or not {"type", "ras"} <= set(given) <= {"type", "ras", "positive", "plane"}:
            raise InputError(
                "A prompt has the keys 'type' and 'ras', and may have 'positive' and 'plane'.",
                advice='Write it like {"type": "point", "ras": [12.5, -3, 40], "positive": true}.',
            )
        positive = given.get("positive", True)
        if not isinstance(positive, bool):
            raise InputError("Whether a prompt is positive is true or false.", advice="Leave it out for true.")
        return cls(given["type"], given["ras"], positive, given.get("plane"))

    def to_dict(self) -> dict[str, Any]:
        """Return the entry that :meth:`from_dict` reads."""
        places = self.ras[0].tolist() if self.kind == "point" else self.ras.tolist()
        told: dict[str, Any] = {"type": self.kind, "ras": places, "positive": self.positive}
        return told if self.plane is None else {**told, "plane": self.plane}

    def voxels(self, geometry: Geometry) -> np.ndarray:
        """Return the voxels (N, 3), (k, j, i), of a grid that it marks; empty when it lies beside the grid.

        A point marks the nearest one, a scribble those that its line passes, a box and a lasso those whose centres
        they hold; a flat box and a lasso hold the slices (in any direction) that their plane passes.
        """
        marked = _MARKED[self.kind](self.ras, geometry)
        marked = marked[((marked >= 0) & (marked < geometry.shape)).all(1)]
        # The others are made of voxels that differ; sorting millions of them takes seconds.
        return np.unique(marked, axis=0) if self.kind == "scribble" else marked


def check_plane(plane: Any) -> None:
    """Check that slices are ``None`` or one of :data:`PLANES`.

    Raises
    ------
    InputError
        When they are something else.
    """
    if plane is not None and plane not in PLANES:
        raise InputError(f"There are no slices '{plane}'.", advice=f"Choose one of {', '.join(PLANES)}, or none.")


def plane_across(normal: np.ndarray) -> Plane:
    """Return which slices are nearest to those across a direction (3,), RAS."""
    return PLANES[int(np.abs(normal).argmax())]


def axis_across(plane: Plane, geometry: Geometry) -> int:
    """Return the axis of an array (k, j, i) that is nearest to being across a plane; each plane has another one."""
    letters = ("LR", "PA", "IS")[PLANES.index(plane)]
    return next(2 - place for place, letter in enumerate(geometry.orientation) if letter in letters)


def prompts_from(entries: Any) -> list[Prompt]:
    """Return the prompts of a list, in its order.

    Raises
    ------
    InputError
        When it is no list, or an entry is no prompt; the sentence says which.
    """
    if not isinstance(entries, list):
        raise InputError("The prompts are not a list.", advice="Give a list of prompts in the order of the clicks.")
    return [_numbered(number, entry) for number, entry in enumerate(entries, start=1)]


def _numbered(number: int, entry: Any) -> Prompt:
    try:
        return Prompt.from_dict(entry)
    except InputError as error:
        raise InputError(f"Prompt {number} cannot be used: {error.message}", advice=error.advice) from error


def read_prompts(path: Path) -> list[Prompt]:
    """Read prompts from a file (.json).

    Raises
    ------
    ReadError
        When there is no such file, or it is not JSON.
    InputError
        As :func:`prompts_from`.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ReadError(f"There is no file {path}.", advice="Check the name.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f"{path} is not a list of prompts in JSON.", advice="Save it again.") from error
    return prompts_from(entries)


def _nearest(places: np.ndarray, geometry: Geometry) -> np.ndarray:
    return np.floor(geometry.ras_to_ijk_points(places)[:, ::-1] + 0.5).astype(np.int64)


def _along(places: np.ndarray, geometry: Geometry) -> np.ndarray:
    index = geometry.ras_to_ijk_points(places)
    pieces = [index[:1]]
    for start, stop in itertools.pairwise(index):
        steps = max(int(np.ceil(np.abs(stop - start).max() / _STEP_VOXELS)), 1)
        pieces.append(start + (stop - start) * (np.arange(1, steps + 1) / steps)[:, None])
    return np.floor(np.concatenate(pieces)[:, ::-1] + 0.5).astype(np.int64)


def _within_box(places: np.ndarray, geometry: Geometry) -> np.ndarray:
    low, high = places.min(0), places.max(0)
    # Along R, A and S a voxel reaches half of this to either side of its centre.
    reach = (np.abs(geometry.direction) * np.asarray(geometry.spacing)).sum(1) / 2
    flat = high - low < 2 * reach
    low, high = np.where(flat, low - reach, low), np.where(flat, high + reach, high)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    candidates = _grid_around(corners, geometry)
    centres = geometry.ijk_to_ras_points(candidates[:, ::-1].astype(np.float64))
    return candidates[((centres >= low - 1e-6) & (centres < high + 1e-6)).all(1)]


def _within_lasso(places: np.ndarray, geometry: Geometry) -> np.ndarray:
    centre = places.mean(0)
    first, second, normal = np.linalg.svd(places - centre, full_matrices=False)[2]
    reach = float((np.abs(normal @ geometry.direction) * np.asarray(geometry.spacing)).sum()) / 2
    edge = np.concatenate([places + normal * reach, places - normal * reach])
    candidates = _grid_around(edge, geometry)
    offsets = geometry.ijk_to_ras_points(candidates[:, ::-1].astype(np.float64)) - centre
    near = (offsets @ normal >= -reach) & (offsets @ normal < reach)
    candidates, offsets = candidates[near], offsets[near]
    plane = np.stack([first, second], axis=1)
    return candidates[_is_inside(offsets @ plane, (places - centre) @ plane)]


def _is_inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Return for points (N, 2) whether a ray from them crosses the edge of a polygon (M, 2) an odd number of times."""
    inside = np.zeros(len(points), bool)
    x, y = points.T
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y1 != y2:
            crosses = (y1 > y) != (y2 > y)
            inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside


def _grid_around(places: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return all voxels (N, 3), (k, j, i), of the grid between the outermost of some places."""
    index = geometry.ras_to_ijk_points(places)[:, ::-1]
    low = np.maximum(np.floor(index.min(0)), 0).astype(np.int64)
    high = np.minimum(np.ceil(index.max(0)) + 1, geometry.shape).astype(np.int64)
    axes = [np.arange(start, max(stop, start)) for start, stop in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


_MARKED = {"point": _nearest, "scribble": _along, "box": _within_box, "lasso": _within_lasso}
