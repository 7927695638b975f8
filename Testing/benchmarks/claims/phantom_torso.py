"""Phantom torsos to learn from: vertebrae that hardly differ, ribs, three organs; images and truth.

Arrays are (slices, rows, columns), slice 0 at the head, 16 x 16 voxels in the plane; sizes are voxels.
"""

from __future__ import annotations

import dataclasses

import numpy as np

PLANE = 16
MOST_VERTEBRAE = 13
RIB_PAIRS = 9
ORGANS = ("heart", "liver", "kidney")
_DISC = 1
_TISSUE, _BONE, _DISC_GREY, _ORGAN_GREY = 0.40, 0.85, 0.50, (0.60, 0.55, 0.65)
_NOISE = 0.05


@dataclasses.dataclass(frozen=True)
class Torso:
    """One phantom.

    Attributes
    ----------
    image
        float32; air is near 0, tissue 0.4, bone 0.85.
    organs
        uint8: 1 heart, 2 liver, 3 kidney.
    vertebrae, ribs
        int32: the number of the bone from the head; ribs of the left side 1 to 9, of the right side 10 to 18.
    """

    image: np.ndarray
    organs: np.ndarray
    vertebrae: np.ndarray
    ribs: np.ndarray

    def cut(self, start: int, slices: int) -> Torso:
        """Return a range of slices."""
        return Torso(*(getattr(self, field.name)[start : start + slices] for field in dataclasses.fields(self)))


def random_torso(rng: np.random.Generator, *, bridges: int = 0) -> Torso:
    """Return a torso of 11 to 13 vertebrae (12 in four of five): their height grows from 7 to 10 slices, +- 1.

    ``bridges`` of bone join as many pairs of neighbouring ribs, the upper half of each part of the upper rib.
    """
    count = int(rng.choice([11, 12, 13], p=[0.1, 0.8, 0.1]))
    heights = [round(7 + 3 * index / (count - 1) + rng.uniform(-1, 1)) for index in range(count)]
    tops = np.cumsum([0, *(height + _DISC for height in heights[:-1])]) + int(rng.integers(2, 6))
    slices = int(tops[-1] + heights[-1] + rng.integers(2, 6))
    centre = (9.5 + rng.uniform(-0.5, 0.5), (PLANE - 1) / 2 + rng.uniform(-0.3, 0.3))
    k, j, i = np.ogrid[:slices, :PLANE, :PLANE]
    sway = 0.4 * np.sin(2 * np.pi * (k / slices + rng.uniform()))
    body = ((j - 7.5) / 6.6) ** 2 + ((i - 7.5) / 7.9) ** 2 < 1
    image = np.where(body, _TISSUE, 0.02) * np.ones((slices, 1, 1))
    organs = _organs(image, body, tops, heights, rng)
    image[(np.abs(i - centre[1] - sway) < 1.6) & (np.abs(j - centre[0]) < 1.4) & (k >= tops[0])] = _DISC_GREY
    vertebrae = np.zeros(image.shape, np.int32)
    for number, (top, height) in enumerate(zip(tops, heights, strict=True), start=1):
        wide = 1.4 + 0.4 * number / count
        here = (k >= top) & (k < top + height)
        block = here & (np.abs(i - centre[1] - sway) < wide) & (np.abs(j - centre[0]) < 1.4)
        process = (k >= top + height // 2) & (k < top + height)
        process = process & (np.abs(i - centre[1] - sway) < 0.8) & (j > centre[0]) & (j < centre[0] + 4)
        vertebrae[block | process] = number
    ribs = _ribs(tops, heights, slices, centre, rng)
    for _ in range(bridges):
        _join(ribs, rng)
    ribs[vertebrae > 0] = 0
    image[(vertebrae > 0) | (ribs > 0)] = _BONE
    organs[(vertebrae > 0) | (ribs > 0)] = 0
    image = image * rng.uniform(0.95, 1.05) + rng.normal(0, _NOISE, image.shape)
    return Torso(image.astype(np.float32), organs, vertebrae, ribs)


def _organs(
    image: np.ndarray, body: np.ndarray, tops: np.ndarray, heights: list[int], rng: np.random.Generator
) -> np.ndarray:
    """Draw the organs into ``image``, each at the level of its vertebrae, and return their labels."""
    organs = np.zeros(image.shape, np.uint8)
    k, j, i = np.ogrid[: image.shape[0], :PLANE, :PLANE]
    # First and last vertebra (from 0), centre and half axes in the plane.
    places = ((2, 4, 5, 9, 2.4, 2.7), (5, 7, 5.5, 5, 2.7, 3), (8, 9, 7, 11, 1.8, 1.8))
    for value, (first, last, row, column, high, wide) in enumerate(places, start=1):
        middle = (tops[first] + tops[last] + heights[last]) / 2 + rng.uniform(-3, 3)
        long = (tops[last] + heights[last] - tops[first]) / 2
        grown = rng.uniform(0.9, 1.1)
        ball = (
            ((k - middle) / long) ** 2
            + ((j - row - rng.uniform(-0.5, 0.5)) / (high * grown)) ** 2
            + ((i - column - rng.uniform(-0.5, 0.5)) / (wide * grown)) ** 2
        )
        inside = (ball < 1) & body
        organs[inside] = value
        image[inside] = _ORGAN_GREY[value - 1]
    return organs


def _ribs(
    tops: np.ndarray, heights: list[int], slices: int, centre: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Return the ribs: arcs from the upper half of their vertebra round to the front and down."""
    ribs = np.zeros((slices, PLANE, PLANE), np.int32)
    slant = rng.uniform(8, 14)
    along = np.linspace(0, 1, 240)
    angle = np.pi * (0.04 + 0.80 * along)
    for side, sign in enumerate((1, -1)):
        for pair in range(RIB_PAIRS):
            down = tops[pair] + heights[pair] / 3 + slant * along**1.3 + rng.uniform(-0.7, 0.7)
            column = centre[1] + sign * (1.4 + 4.9 * np.sin(angle))
            row = 7.5 + 4.4 * np.cos(angle)
            for shift_k, shift_r in ((0, 0), (1, 0), (0, 1), (1, 1)):
                points = [np.rint(part).astype(int) for part in (down + shift_k, row - shift_r, column)]
                inside = (points[0] >= 0) & (points[0] < slices)
                ribs[tuple(part[inside] for part in points)] = 1 + pair + side * RIB_PAIRS
    return ribs


def _join(ribs: np.ndarray, rng: np.random.Generator) -> None:
    """Fill the line of slices between a rib and the next one of its side, somewhere where one lies above the other."""
    upper = 1 + int(rng.integers(RIB_PAIRS - 1)) + RIB_PAIRS * int(rng.integers(2))
    above, below = (np.asarray((ribs == number).any(0)) for number in (upper, upper + 1))
    places = np.argwhere(above & below)
    row, column = places[int(rng.integers(len(places)))]
    line = ribs[:, row, column]
    first, last = int(np.flatnonzero(line == upper)[-1]), int(np.flatnonzero(line == upper + 1)[0])
    middle = (first + last) // 2
    line[first:middle], line[middle:last] = upper, upper + 1
