"""Steps, changes of the weights, and the patches of several processes."""

from __future__ import annotations

import math
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision

from medseg.errors import TrainingError
from medseg.networks import build_network
from medseg.training.averaging import all_finite
from medseg.training.cache import CaseCache
from medseg.training.data import PreparedCase
from medseg.training.export import export_package
from medseg.training.fitting import AtomicCheckpoint, Hardware, fit, new_trainer
from medseg.training.loading import PatchNumbers, TrainingData, unchanged
from medseg.training.module import TrainingModule
from medseg.training.recipe import AugmentationSection, Recipe, read_recipe
from support.segmentation import label_table

UNET = {
    "target": "monai.networks.nets.UNet",
    "arguments": {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [4, 8],
        "strides": [2],
        "norm": "batch",
    },
}


@pytest.fixture
def a_cache(tmp_path: Path) -> CaseCache:
    cache = CaseCache(tmp_path / "cache", 1 << 30)
    for number in range(3):
        label = torch.zeros(12, 12, 8, dtype=torch.uint8)
        label[2:8, 3:9, 2:6] = 1
        label[8:11, 3:9, 2:6] = 2
        cache.add(
            PreparedCase(
                case=str(number),
                image=label[None].float() + 0.1 * torch.randn(1, 12, 12, 8),
                label=label,
                spacing=(1.0, 1.0, 2.0),
                foreground=tuple(torch.nonzero(label == value).to(torch.int32) for value in (1, 2)),
                annotated=torch.tensor([True, True, number == 0]),
            )
        )
    return cache


@pytest.fixture
def a_recipe(a_small_recipe: dict, write_recipe):
    a_small_recipe["network"] = UNET
    a_small_recipe["window"]["size"] = [8, 8, 8]
    a_small_recipe["start_from"] = None

    def changed(**optimisation: object) -> Recipe:
        a_small_recipe["optimisation"].update(optimisation)
        return read_recipe(write_recipe(a_small_recipe))

    return changed


class Watching(Callback):
    """Notes, after each batch, the changes of the weights, the rate and a weight of the average; and all gradients."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, torch.Tensor]] = []
        self.gradients: list[list[torch.Tensor]] = []

    def on_before_optimizer_step(self, _trainer: lightning.Trainer, module: TrainingModule, _optimizer: object) -> None:
        self.gradients.append([value.grad.clone() for value in module.network.parameters()])

    def on_train_batch_end(self, trainer: lightning.Trainer, module: TrainingModule, *_: object) -> None:
        weight = next(module.average.parameters()).detach().flatten()[:4].clone()
        self.seen.append((trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"], weight))


def fitted(recipe: Recipe, cache: CaseCache, output: Path, *more: Callback) -> tuple[Watching, TrainingModule]:
    output.mkdir(exist_ok=True)
    lightning.seed_everything(0, verbose=False)
    network = build_network(recipe.network.target, recipe.network.arguments)
    module, watching = TrainingModule(network, recipe, label_table(2), output), Watching()
    trainer = new_trainer(recipe, network, Hardware("cpu"), output, callbacks=[watching, *more], resumed=False)
    fit(trainer, module, TrainingData(recipe, cache[:2], cache[:1]), None)
    return watching, module


def test_rates_and_averages_follow_the_changes_of_the_weights(a_recipe, a_cache: CaseCache, tmp_path: Path) -> None:
    recipe = a_recipe(steps_per_epoch=6, accumulate=3, epochs=2, warmup_steps=1, learning_rate=1e-2)
    watching, _module = fitted(recipe, a_cache, tmp_path / "out")
    steps, rates, weights = zip(*watching.seen, strict=True)
    assert steps == (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4)
    assert recipe.optimisation.moves == 4
    # The rate for the next change: after one of warm-up, a cosine over the remaining three, which ends at zero.
    expected = [1e-2 * 0.5 * (1 + math.cos(math.pi * (step - 1) / 3)) for step in (1, 2, 3, 4)]
    assert [rates[place] for place in (2, 5, 8, 11)] == pytest.approx(expected)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    # The average moves after the callback has looked: what a change of the weights does to it is seen one batch later.
    moved = [place for place in range(1, 12) if not torch.equal(weights[place], weights[place - 1])]
    assert moved == [3, 6, 9]


def test_gradients_of_three_batches_of_one_are_those_of_one_batch_of_three(
    a_recipe, a_cache: CaseCache, tmp_path: Path
) -> None:
    # With instance norm and a cross-entropy, which is a mean over voxels, both ways compute the same.
    arguments = {**UNET["arguments"], "norm": "instance"}
    gradients = []
    for number, changes in enumerate(({"accumulate": 3}, {"batch_size": 3, "steps_per_epoch": 1})):
        recipe = a_recipe(**{"steps_per_epoch": 3, "batch_size": 1, "accumulate": 1, "epochs": 1, **changes})
        loss = recipe.loss.model_copy(update={"dice_weight": 0.0})
        network = recipe.network.model_copy(update={"arguments": arguments})
        recipe = recipe.model_copy(update={"loss": loss, "network": network})
        (found,) = fitted(recipe, a_cache, tmp_path / str(number))[0].gradients
        gradients.append(found)
    assert max(float(one.abs().max()) for one in gradients[0]) > 1e-3
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_accumulation_that_does_not_divide_an_epoch_is_refused(a_recipe) -> None:
    with pytest.raises(Exception, match="steps_per_epoch must be a multiple of accumulate"):
        a_recipe(steps_per_epoch=4, accumulate=3)


def test_two_processes_of_one_learn_from_the_patches_of_one_process_of_two() -> None:
    def epoch(steps: int, batch: int, rank: int, processes: int, number: int = 3) -> list[list[int]]:
        numbers = PatchNumbers(steps, batch, rank, processes)
        numbers.set_epoch(number)
        drawn = list(numbers)
        assert len(drawn) == len(numbers)
        return [drawn[start : start + batch] for start in range(0, len(drawn), batch)]

    alone = epoch(5, 2, 0, 1)
    together = [[*first, *second] for first, second in zip(epoch(5, 1, 0, 2), epoch(5, 1, 1, 2), strict=True)]
    assert together == alone
    four = [epoch(5, 3, rank, 4) for rank in range(4)]
    assert [[*first, *second, *third, *last] for first, second, third, last in zip(*four, strict=True)] == epoch(
        5, 12, 0, 1
    )
    assert alone[0][0] == 3 * 5 * 2


def test_the_validation_finds_loss_and_dice_of_annotated_labels(a_recipe, a_cache: CaseCache, tmp_path: Path) -> None:
    recipe = a_recipe(epochs=1, steps_per_epoch=2, accumulate=1, validate_every=50)
    module = fitted(recipe, a_cache, tmp_path / "out")[1]
    first = module.last_validation
    assert first is not None  # the last epoch is always validated
    assert first.epoch == 1
    assert math.isfinite(first.loss)
    assert set(first.dice) == {1, 2}
    assert first.mean == pytest.approx(sum(first.dice.values()) / 2)


def test_the_validation_leaves_the_average_as_it_is(a_recipe, a_cache: CaseCache, tmp_path: Path) -> None:
    recipe = a_recipe(epochs=1, steps_per_epoch=1, accumulate=1)
    module = fitted(recipe, a_cache, tmp_path / "out")[1]
    batch = next(iter(TrainingData(recipe, a_cache[:2], a_cache[1:2]).val_dataloader()))
    before = {name: tensor.clone() for name, tensor in module.average.state_dict().items()}
    with torch.no_grad():
        losses = [module._loss_of(batch["patch"]) for _ in range(2)]
    assert losses[0] == losses[1]
    assert not module.average.training
    for name, tensor in module.average.state_dict().items():  # batch norm would have counted the batch
        assert torch.equal(tensor, before[name]), name


def test_an_unannotated_label_is_not_validated(a_recipe, a_cache: CaseCache, tmp_path: Path) -> None:
    recipe = a_recipe(epochs=1, steps_per_epoch=1, accumulate=1)
    module = fitted(recipe, a_cache, tmp_path / "out")[1]
    (batch,) = TrainingData(recipe, a_cache[:2], a_cache[1:2]).val_dataloader()
    with torch.no_grad():
        module.validation_step(batch, 0)
    _loss, dice = module._found[0]
    assert math.isfinite(dice[0])
    assert math.isnan(dice[1])


def test_every_random_change_can_be_switched_off() -> None:
    section = AugmentationSection(flip_axes=(0,), outside="border", histogram_shift_probability=0.5)
    plain = unchanged(section)
    assert {getattr(plain, name) for name in AugmentationSection.model_fields if name.endswith("_probability")} == {0.0}
    assert (plain.flip_axes, plain.outside, plain.elastic_affine) == ((), "border", None)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpoint().save_checkpoint({"epoch": 1}, path)

    def killed_half_way(_checkpoint: dict, stream: object) -> None:
        stream.write(b"half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed_half_way)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpoint().save_checkpoint({"epoch": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["last.ckpt"]


def test_an_interruption_that_ends_as_another_error_is_still_one(a_recipe, a_cache: CaseCache, tmp_path: Path) -> None:
    class HalfWritten(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            try:
                raise KeyboardInterrupt
            finally:
                raise RuntimeError("half a file cannot be closed")

    with pytest.raises(KeyboardInterrupt):
        fitted(a_recipe(), a_cache, tmp_path / "out", HalfWritten())


class Poisoning(Callback):
    """Makes the gradient of a weight infinite, as an overflow in the backward pass does, from the second step on."""

    def on_train_start(self, trainer: lightning.Trainer, module: TrainingModule) -> None:
        weight = next(module.network.parameters())
        weight.register_hook(lambda gradient: gradient * (math.inf if trainer.global_step else 1.0))


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_changes_a_weight(
    a_recipe, a_cache: CaseCache, tmp_path: Path
) -> None:
    poisoning, recipe = Poisoning(), a_recipe(epochs=1, steps_per_epoch=4, accumulate=2)
    with pytest.raises(TrainingError, match=r"gradient is not finite at step 1; the batch is saved in .*bad_batch\.pt"):
        fitted(recipe, a_cache, tmp_path / "out", poisoning)
    saved = torch.load(tmp_path / "out" / "bad_batch.pt", weights_only=True)
    assert (saved["step"], saved["image"].shape) == (1, (1, 1, 8, 8, 8))
    assert not (tmp_path / "out" / "last.ckpt").exists()


def test_the_scaler_of_16_bits_deals_with_gradients_that_are_not_finite(
    a_recipe, a_cache: CaseCache, tmp_path: Path
) -> None:
    class Scaled(Callback):
        def setup(self, trainer: lightning.Trainer, *_: object, **__: object) -> None:
            trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))

    class Overflowing(Callback):
        def on_train_start(self, trainer: lightning.Trainer, module: TrainingModule) -> None:
            weight = next(module.network.parameters())
            weight.register_hook(lambda gradient: gradient * (1.0 if trainer.global_step else math.inf))

    recipe = a_recipe(epochs=1, steps_per_epoch=3, accumulate=1)
    _watching, module = fitted(recipe, a_cache, tmp_path / "out", Scaled(), Overflowing())
    assert all(bool(value.isfinite().all()) for value in module.network.parameters())
    assert (tmp_path / "out" / "last.ckpt").exists()


def test_weights_that_are_not_finite_replace_no_checkpoint_and_are_not_exported(
    a_recipe, a_cache: CaseCache, tmp_path: Path
) -> None:
    class Overflow(Callback):
        """A step so large that a weight is infinite afterwards, in the last step of the second epoch."""

        def on_train_batch_end(self, trainer: lightning.Trainer, module: TrainingModule, *_: object) -> None:
            if trainer.global_step == 4:
                next(module.network.parameters()).data[0] = math.inf

    recipe = a_recipe(epochs=3, steps_per_epoch=2, accumulate=1, validate_every=5)
    with pytest.raises(TrainingError, match=r"weights .* not finite after epoch 2") as caught:
        fitted(recipe, a_cache, tmp_path / "out", Overflow())
    assert "with another output folder, or with --no-resume" in caught.value.advice
    kept = torch.load(tmp_path / "out" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0

    network = build_network(recipe.network.target, recipe.network.arguments)
    next(network.parameters()).data[0] = math.nan
    with pytest.raises(TrainingError, match="not finite"):
        export_package(network, recipe, label_table(2), tmp_path / "package")
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_found_among_many(bad: float) -> None:
    fine = [torch.full((10,), 3e38), torch.zeros(0), torch.tensor([7]), torch.ones(3, dtype=torch.float16)]
    assert all_finite(fine)
    assert all_finite([])
    assert not all_finite([*fine, torch.tensor([1.0, bad, -2.0])])
    assert not all_finite([torch.tensor([bad, -bad])])
