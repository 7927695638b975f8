"""Recipes of networks that follow clicks, and the smallest network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from medseg.networks import build_network
from medseg.training.correction.export import export_correction_package, structure_table
from medseg.training.correction.recipe import CorrectionRecipe

SHAPES = {"kind": "shapes", "spacing": 2.0}
TINY: dict[str, Any] = {
    "dims": 3, "head_norm": "group", "channels": [8, 8, 8, 8], "depths": [1] * 4, "heads": [1] * 4, "head_channels": 8,
    "detail_channels": 4,
}  # fmt: skip
_ABOUT = {
    "name": "any-structure", "version": "0.1.0", "title": "Anything", "description": "Follows clicks.", "anatomy": [],
    "authors": "A", "copyright": "A", "license": "Apache-2.0", "data_sources": "made", "domain": "anything",
}  # fmt: skip


def a_correction_recipe(**changes: Any) -> CorrectionRecipe:
    """One epoch of two steps on random shapes, but for the changes."""
    keys: dict[str, Any] = {
        "task": "correction", "package": _ABOUT, "window": [32, 32, 32], "sources": [SHAPES],
        "network": {"target": "medseg.networks.PEMED", "arguments": TINY},
        "optimisation": {
            "epochs": 1, "steps_per_epoch": 2, "workers": 0, "validate_every": 1, "warmup_steps": 0, "precision": "32",
        },
        "evaluation": {"clicks": 2},
    }  # fmt: skip
    return CorrectionRecipe.model_validate({**keys, **changes})


def a_slice_recipe(**changes: Any) -> CorrectionRecipe:
    """The same for a network that sees single slices."""
    network = {"target": "medseg.networks.PEMED", "arguments": {**TINY, "dims": 2}}
    package = {**_ABOUT, "name": "any-slice"}
    return a_correction_recipe(**{"window": [1, 32, 32], "network": network, "package": package, **changes})


def write_clicks_package(folder: Path, seed: int = 0, *, flat: bool = False) -> Path:
    """Write a package that follows clicks, with weights that nobody has trained, and return its folder.

    ``flat``: in single slices.
    """
    recipe = a_slice_recipe() if flat else a_correction_recipe()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(recipe.network.target, recipe.network.arguments)
    return export_correction_package(network, recipe, structure_table([]), folder)
