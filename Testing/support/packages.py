"""A small real model for tests: it segments bright spheres in noise, and it was really trained to."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.labels import Code, Label, LabelTable
from medseg.labels.codes import ALTERED_STRUCTURE
from medseg.models import InputSlot, Preprocessing, ScaleRange, Window, write_package

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.volumes import Volume

NETWORK_TARGET = "monai.networks.nets.UNet"
BACKGROUND, NOISE = 60.0, 12.0
BRIGHT, DIM = 220.0, 140.0
"""Intensities of the images (no unit): the background and its standard deviation, the two kinds of spheres."""

LABELS = LabelTable(
    [
        Label(1, "bright blob", (221, 130, 101), ALTERED_STRUCTURE, Code("SCT", "4147007", "Mass")),
        Label(2, "dim blob", (128, 174, 128), ALTERED_STRUCTURE, Code("SCT", "367643001", "Cyst")),
    ]
)


def network_arguments(labels: int) -> dict[str, Any]:
    """The arguments of the network for ``labels`` labels."""
    return {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": labels + 1,
        "channels": [4, 8, 8],
        "strides": [2, 2],
        "num_res_units": 0,
        "norm": ["group", {"num_groups": 2}],
    }


def bright_blob_arrays(
    seed: int,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    labels: int = 1,
    blobs: int = 3,
    radius_mm: tuple[float, float] = (5.0, 9.0),
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (float32) and its truth (uint8), both (k, j, i); ``spacing`` is of i, j, k in mm."""
    rng = np.random.default_rng(seed)
    steps = np.array(spacing[::-1])
    axes = np.ix_(*(np.arange(size) * step for size, step in zip(shape, steps, strict=True)))
    truth = np.zeros(shape, dtype=np.uint8)
    extent = np.array(shape) * steps
    for index in range(blobs):
        radius = rng.uniform(*radius_mm)
        margin = np.minimum(radius * 0.8, extent / 2)
        centre = rng.uniform(margin, extent - margin)
        distance = sum((axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True))
        truth[distance <= radius**2] = 1 + index % labels
    levels = np.array([BACKGROUND, BRIGHT, DIM], dtype=np.float32)
    image = levels[truth] + rng.normal(0, NOISE, shape).astype(np.float32)
    return image.astype(np.float32), truth


def bright_blob_case(
    seed: int = 0,
    shape: tuple[int, int, int] = (40, 48, 56),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    orientation: str = "RAS",
    **options: Any,
) -> tuple[Volume, Volume]:
    """Return an image with bright spheres and its truth as volumes of that grid; options as bright_blob_arrays."""
    from medseg.volumes import Geometry, Volume

    image, truth = bright_blob_arrays(seed, shape, spacing, **options)
    geometry = Geometry.from_spacing(shape, spacing, origin, orientation)
    return Volume(image, geometry, name=f"blobs {seed}", modality="MR"), Volume(truth, geometry, name="truth")


@functools.lru_cache(maxsize=4)
def bright_blob_weights(labels: int = 1) -> dict[str, Any]:
    """Train the network for a few seconds on one core, from a fixed seed; once for a test process."""
    import torch

    from medseg.networks import build_network

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            network = build_network(NETWORK_TARGET, network_arguments(labels)).train()
            optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
            scale = training_step()
            for step in range(90):
                cases = [bright_blob_arrays(1000 + 2 * step + item, (32, 32, 32), labels=labels) for item in range(2)]
                images = torch.stack([torch.from_numpy(scale.apply(image).T.copy())[None] for image, _ in cases])
                truths = torch.stack([torch.from_numpy(truth.T.astype(np.int64)) for _, truth in cases])
                loss = torch.nn.functional.cross_entropy(network(images), truths)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    finally:
        torch.set_num_threads(threads)
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def training_step() -> ScaleRange:
    """The intensity step of the model."""
    return ScaleRange(0.0, 300.0, 0.0, 1.0, clip=True)


def write_bright_blob_package(
    folder: Path,
    *,
    spacing: tuple[float | None, float | None, float | None] | None = None,
    orientation: str = "RAS",
    labels: int = 1,
    size_ijk: tuple[int, int, int] = (32, 32, 32),
    overlap: float = 0.5,
    **options: Any,
) -> Path:
    """Write the model to ``folder`` and return it; ``options`` are those of :func:`medseg.models.write_package`."""
    settings: dict[str, Any] = {
        "name": "bright-blob",
        "title": "Bright blobs in noise",
        "description": "Segments bright spheres in synthetic images.",
        "version": "0.1.0",
        "license": "Apache-2.0",
        "inputs": [InputSlot("image", "MR", "An image of bright spheres", minimum_slices=8)],
        "labels": LabelTable(LABELS[:labels]),
        "network_target": NETWORK_TARGET,
        "network_arguments": network_arguments(labels),
        "preprocessing": Preprocessing(orientation, spacing or (None, None, None), (training_step(),)),
        "window": Window(size_ijk, overlap),
        "state_dict": bright_blob_weights(labels),
        "anatomy": ["blob", "phantom"],
        **options,
    }
    return write_package(folder, **settings).folder
