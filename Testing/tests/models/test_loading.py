"""Loading a network: the weights that were saved and no others, and never code."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg.errors import DeviceError, ModelError, UntrustedModelError
from medseg.models import load_network, read_package
from medseg.models.loading import pickle_globals, read_weights
from medseg.networks import build_network
from support.packages import (
    NETWORK_TARGET,
    bright_blob_arrays,
    bright_blob_weights,
    network_arguments,
    write_bright_blob_package,
)


class CreatesAFile:
    """Unpickling one creates the file: what a malicious model would do, with something worse."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def saved(data: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(data, stream, **options)
    return stream.getvalue()


def test_the_small_model_of_the_tests_really_segments(bright_blob_package: Path) -> None:
    from monai.inferers import sliding_window_inference

    package = read_package(bright_blob_package)
    network = load_network(package)
    for seed in range(3):
        image, truth = bright_blob_arrays(seed, (40, 48, 56))
        prepared = package.preprocessing.apply_intensity(image).T
        with torch.no_grad():
            scores = sliding_window_inference(
                torch.from_numpy(prepared.copy())[None, None], package.window.size_ijk, 1, network, mode="gaussian"
            )
        labels = scores.argmax(1)[0].numpy().T
        dice = 2 * np.sum(labels & truth) / (labels.sum() + truth.sum())
        assert dice > 0.9


def test_the_network_has_the_saved_weights_and_is_ready_to_evaluate(bright_blob_package: Path) -> None:
    network = load_network(read_package(bright_blob_package))
    assert not network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, bright_blob_weights()[name]), name


@pytest.mark.parametrize("options", [{"half": True}, {"safetensors": True}, {"half": True, "safetensors": True}])
def test_weights_are_used_as_float32_however_they_are_stored(tmp_path: Path, options: dict[str, bool]) -> None:
    if options.get("safetensors"):
        pytest.importorskip("safetensors")
    package = read_package(write_bright_blob_package(tmp_path / "blob", **options))
    network = load_network(package)
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        wanted = bright_blob_weights()[name]
        assert torch.equal(tensor, wanted.half().float() if options.get("half") else wanted)


def test_every_kind_of_network_that_medseg_has_can_be_saved_and_loaded(tmp_path: Path) -> None:
    """DynUNet lists weights under several names, TSFMUNet has buffers of its own, SwinUNETR computes while built."""
    cases = {
        "monai.networks.nets.DynUNet": {
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [2, 4, 4],
            "deep_supervision": True,
            "deep_supr_num": 1,
        },
        "monai.networks.nets.SwinUNETR": {"in_channels": 1, "out_channels": 2, "feature_size": 12, "depths": [1] * 4},
        "medseg.networks.TSFMUNet": {"in_channels": 1, "out_channels": 2},
    }
    for index, (target, arguments) in enumerate(cases.items()):
        torch.manual_seed(index)
        made = build_network(target, arguments).eval()
        folder = write_bright_blob_package(
            tmp_path / str(index), network_target=target, network_arguments=arguments, state_dict=made.state_dict()
        )
        loaded = load_network(read_package(folder))
        tensors = dict([*loaded.named_parameters(), *loaded.named_buffers()])
        wanted = dict([*made.named_parameters(), *made.named_buffers()])
        assert tensors.keys() == wanted.keys()
        assert all(torch.equal(tensors[name], wanted[name]) for name in wanted), target


def test_a_pickle_that_runs_code_is_refused_without_running_it(a_package: Any, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    evil = CreatesAFile(trap)
    attacks = [
        saved({"weight": evil}),
        saved(evil, _use_new_zipfile_serialization=False),
        pickle.dumps(evil),
        pickle.dumps({"weight": evil}, protocol=0),
        pickle.dumps([evil], protocol=5),
    ]
    for attack in attacks:
        folder = a_package.put_weights(attack)
        package = read_package(folder)
        package.weights.verify()
        with pytest.raises(UntrustedModelError) as caught:
            load_network(package)
        assert "open" in str(caught.value)
        assert "Nothing of it was run" in str(caught.value)
    assert not trap.exists()
    pickle.loads(attacks[2])
    assert trap.exists(), "the attack of this test must be a real one"


def test_weights_dressed_up_as_safetensors_are_refused_without_running_them(a_package: Any, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    folder = a_package.put_weights(pickle.dumps(CreatesAFile(tmp_path / "trap")), "models/model.safetensors")
    with pytest.raises(ModelError):
        load_network(read_package(folder))
    assert not (tmp_path / "trap").exists()


def test_a_torchscript_program_is_refused(a_package: Any) -> None:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Conv3d(1, 1, 1), torch.zeros(1, 1, 4, 4, 4)), stream)
    with pytest.raises(UntrustedModelError, match="TorchScript"):
        load_network(read_package(a_package.put_weights(stream.getvalue())))


def test_a_whole_pickled_network_is_refused(a_package: Any) -> None:
    with pytest.raises(UntrustedModelError, match=r"torch\.nn"):
        load_network(read_package(a_package.put_weights(saved(torch.nn.Conv3d(1, 1, 1)))))


def test_a_name_that_a_pickle_hides_is_not_overlooked() -> None:
    # The stack gets a harmless name last, takes it away again and imports the one below: os.system.
    pushes = b"".join(b"\x8c" + bytes([len(text)]) + text for text in (b"os", b"system", b"decoy"))
    hidden = b"\x80\x04" + pushes + b"0" + b"\x93."
    assert pickle_globals(hidden) == {"?"}
    assert pickle_globals(pickle.dumps(os.path.join, protocol=4)) == {"posixpath.join"}
    assert pickle_globals(pickle.dumps(os.path.join, protocol=0)) == {"posixpath.join"}
    assert pickle_globals(pickle.dumps({"a": [1, 2.5, None, b"x"]})) == set()


def test_packed_members_that_could_unfold_to_any_size_are_refused(a_package: Any) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(bright_blob_weights()))) as source, zipfile.ZipFile(stream, "w") as packed:
        for member in source.infolist():
            packed.writestr(member.filename, source.read(member), zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="unusual"):
        load_network(read_package(a_package.put_weights(stream.getvalue())))


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"a": 1}, {1: torch.zeros(2)}, torch.zeros(3), {"a": {"b": torch.zeros(1)}}]
)
def test_what_is_not_tensors_by_name_is_refused(a_package: Any, content: Any) -> None:
    with pytest.raises(ModelError, match="tensors"):
        load_network(read_package(a_package.put_weights(saved(content))))


def test_tampered_weights_are_refused_before_they_are_read(a_package: Any) -> None:
    content = bytearray(a_package.weights.read_bytes())
    content[len(content) // 2] ^= 1
    package = read_package(a_package.folder)
    a_package.weights.write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256"):
        load_network(package)


def test_weights_that_change_after_they_were_verified_are_verified_again(a_package: Any) -> None:
    package = read_package(a_package.folder)
    load_network(package)
    content = bytearray(a_package.weights.read_bytes())
    content[-1] ^= 1
    a_package.weights.write_bytes(content)
    os.utime(a_package.weights, ns=(1, 1))
    with pytest.raises(ModelError, match="SHA-256"):
        load_network(package)


def test_verified_weights_are_not_read_a_second_time(a_package: Any, monkeypatch: Any) -> None:
    package = read_package(a_package.folder)
    package.weights.verify()
    monkeypatch.setattr("medseg.models.package.sha256_of", lambda _: pytest.fail("read again"))
    package.weights.verify()


def test_missing_and_cut_weights_are_named_when_loading(a_package: Any) -> None:
    package = read_package(a_package.folder)
    a_package.weights.write_bytes(b"")
    with pytest.raises(ModelError, match="incomplete"):
        load_network(package)
    with pytest.raises(ModelError, match="bytes instead of"):
        package.weights.verify()
    a_package.weights.unlink()
    with pytest.raises(ModelError, match="missing"):
        load_network(package)
    with pytest.raises(ModelError, match="missing"):
        package.weights.verify()
    with pytest.raises(ModelError, match="cannot be read"):
        read_weights(a_package.weights)


def test_weights_that_do_not_fit_the_network_say_which(a_package: Any) -> None:
    weights = dict(bright_blob_weights())
    first = next(iter(weights))
    for change, sentence in (
        (lambda tensors: tensors.pop(first), f"'{first}' is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "'extra' is not part"),
        (lambda tensors: tensors.update({first: torch.zeros(3)}), r"has the shape \(3,\) instead of"),
    ):
        tensors = dict(weights)
        change(tensors)
        with pytest.raises(ModelError, match=sentence):
            load_network(read_package(a_package.put_weights(saved(tensors))))


def test_a_tensor_that_claims_a_huge_size_takes_no_memory(a_package: Any) -> None:
    tensors = dict(bright_blob_weights())
    first = next(iter(tensors))
    tensors[first] = torch.zeros(1).expand(2**40)
    with pytest.raises(ModelError, match="instead of"):
        load_network(read_package(a_package.put_weights(saved(tensors))))


def test_weights_that_are_not_numbers_are_refused(a_package: Any) -> None:
    tensors = {name: tensor.clone() for name, tensor in bright_blob_weights().items()}
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    with pytest.raises(ModelError, match="not numbers"):
        load_network(read_package(a_package.put_weights(saved(tensors))))


def test_a_network_of_any_size_is_refused_before_memory_is_taken(a_package: Any) -> None:
    def widen(data: dict[str, Any]) -> None:
        data["network_def"]["channels"] = [65536, 65536, 65536]

    with pytest.raises(ModelError, match="do not fit"):
        load_network(read_package(a_package.edit_inference(widen)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("no_such_argument", 1), ("norm", "no such norm"), ("strides", []), ("channels", ["a", "b", "c"])],
)
def test_arguments_that_the_network_does_not_take_are_refused(a_package: Any, name: str, value: Any) -> None:
    folder = a_package.edit_inference(lambda data: data["network_def"].update({name: value}))
    with pytest.raises(ModelError):
        load_network(read_package(folder))


def test_a_network_that_does_not_exist_is_refused(a_package: Any) -> None:
    folder = a_package.edit_inference(lambda data: data["network_def"].update({"_target_": "NoSuchNet"}))
    with pytest.raises(ModelError, match="NoSuchNet"):
        load_network(read_package(folder))


def test_a_model_for_later_versions_is_refused_with_the_version(a_package: Any) -> None:
    folder = a_package.edit_metadata(lambda data: data["medseg"].update(requires={"torch": "99.0"}))
    with pytest.raises(ModelError, match=r"torch 99\.0 or later"):
        load_network(read_package(folder))


def test_a_device_that_is_not_there_is_a_device_error(bright_blob_package: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="cuda:0"):
        load_network(read_package(bright_blob_package), "cuda:0")


def test_the_network_of_the_tests_is_small() -> None:
    network = build_network(NETWORK_TARGET, network_arguments(1))
    assert sum(parameter.numel() for parameter in network.parameters()) < 20_000


def test_loading_a_network_does_not_bring_the_compiler_along() -> None:
    code = (
        "import sys; from types import SimpleNamespace; from medseg.models.loading import _frame;"
        "sizes = dict(kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2], filters=[4, 8, 8]);"
        "arguments = dict(spatial_dims=3, in_channels=1, out_channels=2, **sizes);"
        "package = SimpleNamespace(network_target='monai.networks.nets.DynUNet', network_arguments=arguments);"
        "print(next(_frame(package).parameters()).is_meta, 'torch._dynamo' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "False"]
