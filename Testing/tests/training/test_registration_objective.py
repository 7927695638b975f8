"""The loss of registration networks, and the plan of their levels."""

from __future__ import annotations

import pytest
import torch

from medseg.losses import diffusion_energy, folding_energy, local_ncc
from medseg.networks.registration_network import Fields
from medseg.networks.spatial import warp
from medseg.training.registration.objective import (
    NOTHING,
    LevelPlan,
    RegistrationObjective,
    pooled_field,
    warped_dice_loss,
)
from medseg.training.registration.recipe import LevelsSection, RegistrationLossSection
from support.registration_training import a_batch

# The loss


def test_the_parts_of_the_loss_add_up_by_the_smoothness_of_each_pair() -> None:
    batch = a_batch(2)
    batch["smoothness"] = torch.tensor([0.0, 1.0])
    displacement = 0.5 * torch.randn(2, 3, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    section = RegistrationLossSection(window=3, dice_weight=2.0, regulariser_weight=5.0, similarity_weight=0.5)
    loss = RegistrationObjective(section)(Fields(displacement, None), batch)["loss"]
    warped = warp(batch["moving"][:1], displacement[:1])
    masks = [(batch[name][:1, None] == torch.tensor([1, 2]).reshape(1, 2, 1, 1, 1)).float() for name in
             ("fixed_labels", "moving_labels")]  # fmt: skip
    first = 0.5 * local_ncc(batch["fixed"][:1], warped, 3) + 2.0 * warped_dice_loss(
        *masks, batch["classes"][:1], displacement[:1]
    )
    second = 5.0 * diffusion_energy(displacement[1:])
    assert loss.item() == pytest.approx((first.item() + second.item()) / 2, rel=1e-4)


def test_what_folds_costs_its_weight_whatever_the_smoothness() -> None:
    batch = a_batch()
    displacement = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(2))
    plain, weighed = (
        RegistrationObjective(RegistrationLossSection(window=3, fold_weight=weight))(Fields(displacement, None), batch)
        for weight in (0.0, 10.0)
    )
    assert "folds" not in plain
    assert weighed["folds"].item() == pytest.approx(folding_energy(displacement).item())
    assert weighed["loss"].item() - plain["loss"].item() == pytest.approx(10 * weighed["folds"].item(), rel=1e-3)


def test_the_dice_of_masks_is_that_of_the_labels_and_leaves_out_what_is_nothing() -> None:
    fixed = torch.zeros(1, 2, 8, 8, 8)
    fixed[0, 0, 2:4], fixed[0, 1] = 1, 1
    moving = torch.zeros(1, 2, 8, 8, 8)
    moving[0, 0, 3:5], moving[0, 1] = 1, 0
    still = torch.zeros(1, 3, 8, 8, 8)
    assert warped_dice_loss(fixed, moving, torch.tensor([[4, NOTHING]]), still).item() == pytest.approx(0.5, abs=1e-4)
    assert warped_dice_loss(fixed, moving, torch.tensor([[4, 5]]), still).item() == pytest.approx(0.75, abs=1e-4)
    assert warped_dice_loss(fixed, moving, torch.tensor([[NOTHING, NOTHING]]), still).item() == 0
    still[0, 0] = 1.0  # the moving label lies one voxel further along I
    assert warped_dice_loss(fixed, moving, torch.tensor([[4, NOTHING]]), still).item() == pytest.approx(0, abs=1e-4)


def test_the_velocity_is_smoothed_where_there_is_one() -> None:
    batch = {**a_batch(), "smoothness": torch.ones(1)}
    velocity, displacement = torch.randn(1, 3, 8, 8, 8), torch.randn(1, 3, 8, 8, 8)
    fields = Fields(displacement, velocity)
    auto = RegistrationObjective(RegistrationLossSection())(fields, batch)["loss"]
    told = RegistrationObjective(RegistrationLossSection(on="displacement"))(fields, batch)["loss"]
    torch.testing.assert_close(auto, diffusion_energy(velocity))
    torch.testing.assert_close(told, diffusion_energy(displacement))


@pytest.mark.parametrize("similarity", ["lncc", "nmi", "mind", "none"])
@pytest.mark.parametrize(
    "regulariser",
    ["diffusion", "bending", "curvature", "implicit_diffusion", "implicit_curvature", "implicit_elastic"],
)
def test_every_loss_has_a_gradient(similarity: str, regulariser: str) -> None:
    section = RegistrationLossSection(similarity=similarity, regulariser=regulariser, window=3)
    displacement = (0.4 * torch.randn(1, 3, 8, 8, 8)).requires_grad_()
    RegistrationObjective(section)(Fields(displacement, None), a_batch())["loss"].backward()
    assert torch.isfinite(displacement.grad).all()
    assert displacement.grad.abs().sum() > 0


def test_on_a_coarser_grid_a_field_is_in_its_voxels_and_moves_as_far() -> None:
    displacement = torch.full((1, 3, 8, 8, 8), 2.0)
    torch.testing.assert_close(pooled_field(displacement, 2), torch.full((1, 3, 4, 4, 4), 1.0))
    batch = a_batch(size=(12, 12, 12))
    batch["moving_labels"] = batch["fixed_labels"].roll(2, 1)
    right = torch.zeros(1, 3, 12, 12, 12)
    right[:, 0] = 2.0
    objective = RegistrationObjective(RegistrationLossSection(similarity="none"))
    for coarser in (1, 2):
        parts = objective(Fields(right, None), batch, coarser)
        assert parts["dice_loss"].item() == pytest.approx(0.0, abs=1e-3)
        assert objective(Fields(0 * right, None), batch, coarser)["dice_loss"].item() > 0.2


def test_a_pyramid_sees_a_shift_that_is_too_far_for_the_finest_grid() -> None:
    batch = a_batch(size=(16, 16, 16))
    for name, at in (("fixed_labels", 3), ("moving_labels", 9)):
        batch[name] = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
        batch[name][0, at : at + 2, 6:9, 6:9] = 1
    batch["classes"] = torch.tensor([[1]])

    def pull(pyramid: int) -> float:
        still = torch.zeros(1, 3, 16, 16, 16, requires_grad=True)
        section = RegistrationLossSection(similarity="none", pyramid=pyramid)
        RegistrationObjective(section)(Fields(still, None), batch)["loss"].backward()
        return float(still.grad[0, 0, 3:5, 6:9, 6:9].abs().sum())

    assert pull(1) == 0
    assert pull(3) > 0


def test_coarse_levels_come_first_and_are_frozen_for_a_while_when_one_is_added() -> None:
    plan = LevelPlan(LevelsSection(steps=(3, 2), frozen_steps=1), 3)
    assert [plan.level(step) for step in range(7)] == [1, 1, 1, 2, 2, 3, 3]
    assert [plan.frozen_below(step) for step in range(7)] == [1, 1, 1, 2, 1, 3, 1]
    assert [plan.coarser(step) for step in range(7)] == [4, 4, 4, 2, 2, 1, 1]
    assert [plan.since(step) for step in range(7)] == [0, 1, 2, 0, 1, 0, 1]
    assert LevelPlan(LevelsSection(steps=(3, 2), compare="full"), 3).coarser(0) == 1
    assert LevelPlan(LevelsSection(steps=(0, 2)), 3).level(0) == 2
    with pytest.raises(ValueError, match="must name 2 numbers"):
        LevelPlan(LevelsSection(steps=(3,)), 3)
