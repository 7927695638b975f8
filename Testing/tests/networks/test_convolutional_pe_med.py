"""The 3D network of clicks made of convolutions: its parts, what stays from click to click, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medseg.networks import ClickNetwork, ConvolutionalPEMED, build_network
from medseg.networks.pe_med import PromptImageAttention

TINY = {"channels": (8, 8, 16, 16), "detail_channels": 8}
SIZE = (16, 32, 32)


def some_prompts(batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """A positive and a negative click, and an answer."""
    positive, negative = torch.zeros(2, batch, 1, *SIZE).unbind(0)
    positive[:, :, 4:8, 4:8, 4:8] = 1
    negative[:, :, 8:12, 20:26, 20:26] = 1
    return positive, negative, torch.rand(batch, 1, *SIZE)


@pytest.fixture(autouse=True)
def the_same_numbers() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("memory", [True, False])
def test_every_part_can_be_left_out_and_prompts_still_matter(inner: bool, outer: bool, memory: bool) -> None:
    network = ConvolutionalPEMED(**TINY, inner_attention=inner, outer_attention=outer, memory=memory).eval()
    image, prompts = torch.rand(2, 1, *SIZE), some_prompts(2)
    with torch.no_grad():
        found = network(image, *prompts)
        assert found.shape == (2, 1, *SIZE)
        for number in range(3):
            fewer = [torch.zeros_like(prompt) if number == place else prompt for place, prompt in enumerate(prompts)]
            assert not torch.allclose(network(image, *fewer), found)
    assert isinstance(network.outer, PromptImageAttention) == outer
    network.train()(image, *prompts, torch.randn(2, 1, *SIZE)).mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_features_of_the_image_serve_every_click() -> None:
    network = ConvolutionalPEMED(**TINY).eval()
    image, prompts, last = torch.rand(1, 1, *SIZE), some_prompts(), torch.randn(1, 1, *SIZE)
    with torch.no_grad():
        features = network.image_features(image)
        torch.testing.assert_close(network.refine(features, *prompts, last), network(image, *prompts, last))


def test_the_last_answer_enters_as_printed() -> None:
    network = ConvolutionalPEMED(**TINY).eval()
    image, prompts, last = torch.rand(1, 1, *SIZE), some_prompts(), torch.randn(1, 1, *SIZE)
    assert network.memory is not None
    with torch.no_grad():
        difference = network(image, *prompts, last) - network(image, *prompts)
        torch.testing.assert_close(difference, network.memory(last))
        assert difference.max() < 0.05, "a fresh memory adds next to nothing"


@pytest.mark.parametrize("size", [(16, 16, 24), (8, 16, 16)])
def test_a_size_that_does_not_fit_is_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        ConvolutionalPEMED(**TINY)(torch.rand(1, 1, *size), *some_prompts())


def test_channels_that_cannot_be_grouped_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        ConvolutionalPEMED(channels=(8, 12, 16, 16))


def test_a_package_may_name_it() -> None:
    network = build_network("medseg.networks.ConvolutionalPEMED", {"channels": [8, 8, 16, 16]})
    assert isinstance(network, ClickNetwork)
    assert (network.dims, network.step) == (3, 16)


def test_it_learns_which_of_two_like_blocks_was_clicked_at() -> None:
    network, size = ConvolutionalPEMED(channels=(8, 16, 16, 16)), (16, 16, 32)
    image, truths, clicks, empty = (torch.zeros(2, 1, *size) for _ in range(4))
    image[..., 4:12, 4:12, 3:13] = image[..., 4:12, 4:12, 19:29] = 1
    for case, start in enumerate((3, 19)):
        truths[case, :, 4:12, 4:12, start : start + 10] = 1
        clicks[case, :, 6:10, 6:10, start + 3 : start + 7] = 1
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    for _ in range(50):
        logits = network(image, clicks, empty, empty)
        share = torch.sigmoid(logits)
        overlap = 2 * (share * truths).sum() / (share.sum() + truths.sum())
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truths) + 1 - overlap
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = logits > 0
    assert torch.equal(found.flatten(1).sum(1) > 0, torch.tensor([True, True]))
    assert 2 * (found * truths).sum() / (found.sum() + truths.sum()) > 0.9
