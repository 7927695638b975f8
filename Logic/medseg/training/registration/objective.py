"""What the training of a registration network minimises: one interface for every network, loss and regulariser."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

from medseg.losses import folding_energy
from medseg.networks import ConditionalLapIRN
from medseg.networks.registration_network import Fields
from medseg.networks.spatial import warp
from medseg.registration.instance import dissimilarity, roughness

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.networks import RegistrationNetwork
    from medseg.training.registration.recipe import LevelsSection, RegistrationLossSection, RegistrationRecipe

NOTHING = -1
"""Fills up the list of labels of a pair that has fewer than others."""

_EMPTY = 1e-5


class PairBatch(TypedDict):
    """Pairs of a training step.

    Attributes
    ----------
    fixed, moving
        (B, 1, I, J, K) float32, 0 to 1.
    fixed_labels, moving_labels
        (B, I, J, K) uint8; equal numbers are equal structures; all 0 for a pair without labels.
    classes
        (B, N) int64: the labels that count in this step, :data:`NOTHING` where a pair has fewer than N.
    smoothness
        (B,) float32.
    """

    fixed: Tensor
    moving: Tensor
    fixed_labels: Tensor
    moving_labels: Tensor
    classes: Tensor
    smoothness: Tensor


class RegistrationObjective(nn.Module):
    """``mean over pairs of (1 - s) (w similarity + d Dice) + s r roughness``; s is the smoothness of the pair.

    Source: T. Mok et al. (MLMI 2023), Eq. 3; the Dice of warped labels as in J. Chen et al. (MLMI 2023). With a
    ``pyramid`` images and labels are also compared on grids that are 2, 4, ... times coarser, with the weights 1/2,
    1/4, ... and smaller windows, as the authors' public code of conditional LapIRN does; the weights add up to 1.
    """

    def __init__(self, section: RegistrationLossSection) -> None:
        super().__init__()
        self._section = section
        self._rough: dict[tuple[int, ...], Callable[[Tensor], Tensor]] = {}

    def forward(self, fields: Fields, batch: PairBatch, coarser: int = 1) -> dict[str, Tensor]:
        """Return the losses of what a network gave: "loss" is what is minimised, the others are its parts.

        Parameters
        ----------
        fields
            Displacement and velocity at full size, (B, 3, I, J, K) in voxels.
        coarser
            Compares on a grid that is so many times coarser than the full one, a power of 2.
        """
        section, displacement = self._section, fields.displacement
        smoothness = batch["smoothness"].to(displacement.dtype)
        images = torch.cat([batch["fixed"], batch["moving"]], 1)
        masks = _masks(batch) if section.dice_weight else ()
        scales = [coarser << scale for scale in range(section.pyramid)]
        weights = [2.0**-scale for scale in range(section.pyramid)]
        parts: dict[str, Tensor] = {}
        total = displacement.new_zeros(len(displacement))
        for scale, weight in zip(scales, weights, strict=True):
            share, field = weight / sum(weights), pooled_field(displacement, scale)
            if section.compares_images:
                apart = self._apart(_pooled(images, scale), field, scale)
                total = total + share * section.similarity_weight * apart
                parts["similarity_loss"] = parts.get("similarity_loss", 0) + share * apart.mean()
            if masks:
                fixed, moving = (_pooled(one, scale) for one in masks)
                overlap = warped_dice_loss(fixed, moving, batch["classes"], field)
                total = total + share * section.dice_weight * overlap
                parts["dice_loss"] = parts.get("dice_loss", 0) + share * overlap.mean()
        judged = displacement if fields.velocity is None or section.on == "displacement" else fields.velocity
        rough = self._roughness_of(pooled_field(judged, coarser))
        parts["roughness"] = rough.mean()
        loss = ((1 - smoothness) * total + smoothness * section.regulariser_weight * rough).mean()
        if section.fold_weight:
            parts["folds"] = folding_energy(pooled_field(displacement, coarser))
            loss = loss + section.fold_weight * parts["folds"]
        return {"loss": loss, **parts}

    def _apart(self, images: Tensor, field: Tensor, scale: int) -> Tensor:
        """Return the dissimilarity of each pair (B,); ``images`` (B, 2, I, J, K) are the fixed and the moving one."""
        section = self._section
        window = max(3, section.window - 2 * (scale.bit_length() - 1))
        measure = dissimilarity(section.similarity, window)  # type: ignore[arg-type]
        moved = warp(images[:, 1:], field)
        return torch.stack([measure(images[n : n + 1, :1], moved[n : n + 1]) for n in range(len(images))])

    def _roughness_of(self, field: Tensor) -> Tensor:
        """Return the roughness of each pair's field (B,)."""
        section, size = self._section, tuple(field.shape[2:])
        if size not in self._rough:
            self._rough[size] = roughness(
                section.regulariser, size, gamma=section.gamma, mu=section.mu, lam=section.lam
            )
        return torch.stack([self._rough[size](one[None]) for one in field])


def pooled_field(displacement: Tensor, coarser: int) -> Tensor:
    """Return a displacement (B, 3, I, J, K) on a grid whose voxels are blocks of ``coarser`` an edge, in its voxels."""
    return _pooled(displacement, coarser) / coarser


def warped_dice_loss(fixed: Tensor, moving: Tensor, classes: Tensor, displacement: Tensor) -> Tensor:
    """Return 1 - the mean soft Dice of masks after warping, for each pair; 0 for one without.

    Parameters
    ----------
    fixed, moving
        (B, N, I, J, K), 0 to 1: a channel for each label; warped trilinearly.
    classes
        (B, N); channels that are :data:`NOTHING` do not count.

    Returns
    -------
    Tensor
        (B,).
    """
    there = (classes != NOTHING).to(displacement.dtype)
    moved = warp(moving, displacement)
    both = (fixed * moved).sum((2, 3, 4))
    score = (2 * both + _EMPTY) / (fixed.square().sum((2, 3, 4)) + moved.square().sum((2, 3, 4)) + _EMPTY)
    return ((1 - score) * there).sum(1) / there.sum(1).clamp(min=1)


def _masks(batch: PairBatch) -> tuple[Tensor, Tensor]:
    """Return masks (B, N, I, J, K) of the labels that count, of both images."""
    values, dtype = batch["classes"][..., None, None, None], batch["fixed"].dtype
    return (
        (batch["fixed_labels"][:, None] == values).to(dtype),
        (batch["moving_labels"][:, None] == values).to(dtype),
    )


def _pooled(values: Tensor, coarser: int) -> Tensor:
    return values if coarser == 1 else F.avg_pool3d(values, coarser)


def fields_of(network: RegistrationNetwork, batch: PairBatch, level: int | None) -> Fields:
    """Return what a network predicts for a batch; ``level`` stops one with levels there."""
    fixed, moving = batch["fixed"], batch["moving"]
    smoothness = batch["smoothness"] if network.conditional else None
    if level is not None and isinstance(network, ConditionalLapIRN):
        return Fields(network.to_level(level, fixed, moving, smoothness).full, None)
    return network.fields(fixed, moving, smoothness)


class LevelPlan:
    """Which levels a step trains: coarse ones first, and the earlier ones frozen for a while after each addition.

    After the authors' public code of conditional LapIRN, which trains level by level and keeps the ones before fixed
    for the first 3000 steps of a new one; T. Mok et al. (MLMI 2023) do not say how they train.

    Parameters
    ----------
    levels
        How many the network has.
    """

    def __init__(self, section: LevelsSection, levels: int) -> None:
        if len(section.steps) != levels - 1:
            raise ValueError(f"levels.steps must name {levels - 1} numbers, one for each level but the last")
        self._ends = [sum(section.steps[: number + 1]) for number in range(levels - 1)]
        self._frozen, self._levels, self._own = section.frozen_steps, levels, section.compare == "level"

    @classmethod
    def of(cls, recipe: RegistrationRecipe, network: nn.Module) -> LevelPlan | None:
        """Return the plan of a recipe for its network; ``None`` when all is trained from the first step."""
        if recipe.levels is None or not isinstance(network, ConditionalLapIRN):
            return None
        return cls(recipe.levels, network.levels)

    def level(self, step: int) -> int:
        """Return the finest level, from 1, that the change of the weights number ``step`` (from 0) trains."""
        return 1 + sum(step >= end for end in self._ends)

    def is_last(self, step: int) -> bool:
        """Say whether this step trains all levels."""
        return self.level(step) == self._levels

    def since(self, step: int) -> int:
        """Return how many changes of the weights the finest level of this step has seen before it."""
        level = self.level(step)
        return step - (self._ends[level - 2] if level > 1 else 0)

    def coarser(self, step: int) -> int:
        """Return how many times coarser than the full grid the loss of this step is compared."""
        return 1 << (self._levels - self.level(step)) if self._own else 1

    def frozen_below(self, step: int) -> int:
        """Return the level, from 1, below which the weights stay as they are in this step; 1: all are trained."""
        level = self.level(step)
        return level if level > 1 and self.since(step) < self._frozen else 1
