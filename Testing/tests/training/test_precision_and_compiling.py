"""What a run computes in: the number format, and compiled networks."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from medseg.training import run_training
from medseg.training.compiling import compile_in_place
from medseg.training.objectives.dice import DiceCESection
from medseg.training.precision import precision_of
from medseg.training.recipe import read_recipe
from medseg.training.run_files import read_progress


class Block(nn.Module):
    """A convolution over ``kernel`` voxels, after ``poolings`` that halve the first axis."""

    def __init__(self, poolings: int, kernel: int = 3) -> None:
        super().__init__()
        self.pool = nn.MaxPool3d((2**poolings, 1, 1))
        self.norm = nn.BatchNorm3d(1)
        self.convolution = nn.Conv3d(1, 2, kernel, padding=kernel // 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.convolution(self.norm(self.pool(image)))


@pytest.fixture
def the_processor_has(monkeypatch: pytest.MonkeyPatch):
    def has(*instructions: str) -> None:
        for name in ("amx_tile", "avx512_bf16"):
            monkeypatch.setattr(
                torch.cpu, f"_is_{name}_supported", lambda name=name: name in instructions, raising=False
            )

    return has


@pytest.fixture
def a_recipe(a_small_recipe: dict, write_recipe):
    """A window of 16 voxels along the first axis."""

    def with_precision(precision: str = "auto"):
        a_small_recipe["optimisation"]["precision"] = precision
        return read_recipe(write_recipe(a_small_recipe))

    a_small_recipe["window"]["size"] = [16, 16, 8]
    return with_precision


@pytest.mark.parametrize(
    ("instructions", "expected"), [((), "32-true"), (("avx512_bf16",), "bf16-mixed"), (("amx_tile",), "bf16-mixed")]
)
def test_bfloat16_is_chosen_where_the_processor_is_fast_with_it(
    a_recipe, the_processor_has, instructions: tuple[str, ...], expected: str
) -> None:
    the_processor_has(*instructions)
    assert precision_of(a_recipe(), Block(poolings=2), "cpu") == expected
    assert precision_of(a_recipe("32"), Block(poolings=2), "cpu") == "32-true"


@pytest.mark.parametrize("wanted", ["auto", "bf16"])
def test_a_convolution_over_two_voxels_is_trained_in_32_bits_where_its_gradients_would_be_wrong(
    a_recipe, the_processor_has, caplog: pytest.LogCaptureFixture, wanted: str
) -> None:
    the_processor_has("avx512_bf16")
    network = Block(poolings=3)
    assert precision_of(a_recipe(wanted), network, "cpu") == "32-true"
    assert "over two voxels" in caplog.text
    assert network.norm.num_batches_tracked == 0
    assert precision_of(a_recipe(wanted), Block(poolings=3, kernel=1), "cpu") == "bf16-mixed"
    the_processor_has("avx512_bf16", "amx_tile")
    assert precision_of(a_recipe(wanted), network, "cpu") == "bf16-mixed"


@pytest.fixture
def a_batch() -> dict:
    image = torch.randn(2, 1, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    classes = (image[:, 0] > 0).to(torch.uint8)
    return {"image": image, "classes": classes, "annotated": torch.ones(2, 2, dtype=torch.bool)}


def test_a_compiled_network_has_the_weights_the_answer_and_the_loss_of_before(a_batch: dict) -> None:
    torch.manual_seed(0)
    network, objective = Block(poolings=0), DiceCESection().build(2)
    before, names = network.eval()(a_batch["image"]), list(network.state_dict())
    loss = objective(before, a_batch)["loss"]
    network.train()
    state = torch.get_rng_state()
    assert compile_in_place(network, objective, a_batch, contextlib.nullcontext())
    assert torch.equal(torch.get_rng_state(), state)
    assert list(network.state_dict()) == names
    assert network.norm.num_batches_tracked == 0
    assert network.norm.running_var.tolist() == [1.0]
    assert network.convolution.weight.grad is None
    after = network.eval()(a_batch["image"])
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(objective(after, a_batch)["loss"], loss)


def test_what_cannot_be_compiled_is_trained_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, a_batch: dict
) -> None:
    def refuse(*_arguments: object, **_options: object) -> object:
        def call(*_inputs: object) -> object:
            raise torch._dynamo.exc.TorchDynamoException("no C++ compiler here\nand a long story")

        return call

    monkeypatch.setattr(torch, "compile", refuse)
    network, objective = Block(poolings=0), DiceCESection().build(2)
    with caplog.at_level(logging.WARNING):
        assert not compile_in_place(network, objective, a_batch, contextlib.nullcontext())
    assert "no C++ compiler here" in caplog.text
    assert "long story" not in caplog.text
    assert torch.isfinite(objective(network(a_batch["image"]), a_batch)["loss"])


def test_a_run_with_a_compiled_network_learns_and_may_go_on_without(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    a_small_recipe["optimisation"].update(epochs=2, compile=True)
    compiled = read_recipe(write_recipe(a_small_recipe))
    run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "out", device="cpu")
    losses = [entry["loss"] for entry in read_progress(tmp_path / "out") if entry["kind"] == "epoch"]
    assert losses[1] < losses[0]
    a_small_recipe["optimisation"]["compile"] = False
    assert read_recipe(write_recipe(a_small_recipe)).digest() == compiled.digest()
