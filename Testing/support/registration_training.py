"""Data that registration networks train on in tests: pairs with their table, and label maps of heads."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg.training.run_files import read_progress
from medseg.volumes import Geometry, Volume, write_labelmap, write_volume
from support.registration import a_head, a_smooth_warp, moved


def write_pairs(folder: Path) -> Path:
    """Write three pairs of a head and the same head warped, with labels of brain and skull; the last is kept aside."""
    rows = []
    for number, millimetres in enumerate((9.0, -9.0, 8.0)):
        head = a_head((30, 36, 32), (6.0, 6.0, 6.0))
        known = a_smooth_warp(head.geometry, millimetres)
        labels = Volume(np.digitize(head.array, [0.2, 0.6]).astype(np.uint8), head.geometry)
        write_volume(head, folder / f"fixed_{number}.nii.gz")
        write_volume(moved(head, known), folder / f"moving_{number}.nii.gz")
        write_labelmap(labels, folder / f"fixed_{number}_label.nii.gz")
        away = known.inverse(head.geometry)[0].resample(labels, head.geometry, "nearest")
        write_labelmap(away, folder / f"moving_{number}_label.nii.gz")
        split = "validation" if number == 2 else "training"
        names = [f"{which}_{number}{end}.nii.gz" for end in ("", "_label") for which in ("fixed", "moving")]
        rows.append([f"pair {number}", *names, split])
    with (folder / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["case", "fixed", "moving", "fixed_label", "moving_label", "split"], *rows])
    return folder / "pairs.csv"


def write_heads(folder: Path, count: int) -> Path:
    """Write label maps of a head in which a brain (2) lies in a skull (515), a little different each."""
    for number in range(count):
        geometry = Geometry.from_spacing((30, 34, 32), (4.0, 4.0, 4.0))
        k, j, i = np.indices(geometry.shape)
        away = np.sqrt(((i - 16) / 13) ** 2 + ((j - 17) / (14 - number % 2)) ** 2 + ((k - 15) / 12) ** 2)
        array = np.where(away < 1, 515, 0)
        array[away < 0.8] = 2
        array[(away < 0.35) & (i < 16)] = 4
        write_labelmap(Volume(array.astype(np.int16), geometry), folder / f"head_{number}.nii.gz")
    return folder


def a_batch(count: int = 1, size: tuple[int, int, int] = (8, 8, 8)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(count, *size, dtype=torch.uint8)
    labels[:, 2:6, 2:6, 2:6] = 1
    labels[:, 4:6, 4:6, 4:6] = 2
    return {
        "fixed": torch.rand(count, 1, *size, generator=generator),
        "moving": torch.rand(count, 1, *size, generator=generator),
        "fixed_labels": labels,
        "moving_labels": labels.clone(),
        "classes": torch.tensor([[1, 2]] * count),
        "smoothness": torch.full((count,), 0.4),
    }


def entries(output: Path) -> list[dict[str, Any]]:
    return [entry for entry in read_progress(output) if entry["kind"] == "epoch"]
