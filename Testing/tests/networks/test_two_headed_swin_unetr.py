"""SwinUNETR-V2 with two decoders: published size, and each path is MONAI's network with shared features."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import nn

from medseg.errors import ModelError
from medseg.models import read_package
from medseg.networks import TwoHeadedSwinUNETR, build_network, two_headed_swin_unetr
from support.packages import write_bright_blob_package

TINY: dict[str, Any] = {
    "out_channels": 3, "embedding_channels": 5, "feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2],
    "window_size": 2,
}  # fmt: skip


def size_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def monais(channels: int) -> SwinUNETR:
    """MONAI's network with the sizes of TINY."""
    arguments = {name: value for name, value in TINY.items() if name != "embedding_channels"}
    return SwinUNETR(in_channels=1, use_v2=True, **{**arguments, "out_channels": channels})


def test_the_published_network_has_the_parameters_of_its_description() -> None:
    network = TwoHeadedSwinUNETR()
    assert size_of(network.swinViT) == 18_637_362
    assert size_of(network.swinViT) + size_of(network.semantic) == 72_763_783
    assert size_of(network.instance) == 54_126_176
    assert size_of(network) == 126_889_959


def test_the_transformer_halves_the_image_five_times() -> None:
    torch.manual_seed(0)
    network = TwoHeadedSwinUNETR(**TINY).eval()
    seen: list[torch.Tensor] = []
    network.semantic.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[1]))
    scores, embeddings = network(torch.randn(1, 1, 32, 64, 32))
    assert scores.shape == (1, 3, 32, 64, 32)
    assert embeddings.shape == (1, 5, 32, 64, 32)
    assert [tuple(maps.shape) for maps in seen] == [
        (1, 12 << level, 16 >> level, 32 >> level, 16 >> level) for level in range(5)
    ]


def test_each_path_is_monais_network_on_the_same_features() -> None:
    torch.manual_seed(0)
    network = TwoHeadedSwinUNETR(**TINY).eval()
    image = torch.randn(1, 1, 32, 32, 64)
    with torch.no_grad():
        outputs = network(image)
        for path, channels, output in ((network.semantic, 3, outputs[0]), (network.instance, 5, outputs[1])):
            theirs = monais(channels).eval()
            weights = {f"swinViT.{name}": tensor for name, tensor in network.swinViT.state_dict().items()}
            theirs.load_state_dict({**weights, **path.state_dict()})
            torch.testing.assert_close(theirs(image), output)


def test_the_transformer_is_shared_and_the_paths_are_not() -> None:
    torch.manual_seed(0)
    network = TwoHeadedSwinUNETR(**TINY)
    scores, embeddings = network(torch.randn(1, 1, 32, 32, 64))
    scores.square().mean().backward()
    assert all(parameter.grad is None for parameter in network.instance.parameters())
    before = network.swinViT.patch_embed.proj.weight.grad.clone()
    scores, embeddings = network(torch.randn(1, 1, 32, 32, 64))
    embeddings.square().mean().backward()
    assert not torch.equal(network.swinViT.patch_embed.proj.weight.grad, before)
    idle = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert idle == set()


def test_the_network_of_the_second_version_has_residual_convolutions_in_front_of_each_stage() -> None:
    network = TwoHeadedSwinUNETR(**TINY)
    stages = [name for name, _ in network.swinViT.named_children() if name.endswith("c") and "layers" in name]
    assert stages == ["layers1c", "layers2c", "layers3c", "layers4c"]


def test_a_size_that_cannot_be_halved_five_times_or_leaves_one_voxel_is_refused() -> None:
    network = TwoHeadedSwinUNETR(**TINY).eval()
    with pytest.raises(ValueError, match=r"multiples of 32, not \(32, 32, 48\)"):
        network(torch.zeros(1, 1, 32, 32, 48))
    with pytest.raises(ValueError, match="at least one size must be 64"):
        network(torch.zeros(1, 1, 32, 32, 32))


def test_a_missing_einops_is_told_before_the_first_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        two_headed_swin_unetr.importlib.util, "find_spec", lambda name, *a: None if name == "einops" else real(name, *a)
    )
    with pytest.raises(ModelError, match="needs the Python package einops") as caught:
        build_network("medseg.networks.TwoHeadedSwinUNETR", TINY)
    assert "pip install einops" in caught.value.advice


def test_the_arguments_follow_the_version_of_monai(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Earlier(nn.Module):
        """As before MONAI 1.5: with img_size, without window_size."""

        def __init__(self, *, img_size: Any, out_channels: int, use_v2: bool, **_others: Any) -> None:
            super().__init__()
            asked.append({"img_size": img_size, "out_channels": out_channels, "use_v2": use_v2})
            self.swinViT, self.out, self.normalize = nn.Identity(), nn.Identity(), True

    monkeypatch.setattr("monai.networks.nets.SwinUNETR", Earlier)
    TwoHeadedSwinUNETR(**{**TINY, "window_size": 7})
    assert asked == [
        {"img_size": (32, 32, 32), "out_channels": 3, "use_v2": True},
        {"img_size": (32, 32, 32), "out_channels": 5, "use_v2": True},
    ]
    with pytest.raises(ValueError, match="windows of 7 patches only"):
        TwoHeadedSwinUNETR(**TINY)


def test_its_packages_say_that_they_need_einops(tmp_path: Path) -> None:
    network = TwoHeadedSwinUNETR(**TINY)
    package = read_package(
        write_bright_blob_package(
            tmp_path / "package",
            labels=2,
            network_target="medseg.networks.TwoHeadedSwinUNETR",
            network_arguments=TINY,
            state_dict=network.state_dict(),
        )
    )
    assert package.requires["einops"] == "0.6"
    assert package.problems() == []
    assert "einops" not in read_package(write_bright_blob_package(tmp_path / "other")).requires
