"""Model packages: read as data, complete, and refused with a sentence when they are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import ModelError, UntrustedModelError, WriteError
from medseg.labels import LabelTable, write_labels
from medseg.models import (
    InputSlot,
    Measured,
    Normalize,
    Postprocessing,
    Preprocessing,
    ScalePercentiles,
    ScaleRange,
    Window,
    read_package,
)
from medseg.models.bundle import NETWORK_MODULES
from support.packages import LABELS, write_bright_blob_package


def test_importing_models_needs_nothing_heavy() -> None:
    heavy = "{'torch', 'monai', 'SimpleITK', 'scipy', 'vtk', 'yaml', 'pydantic'}"
    code = f"import sys, medseg.models, medseg.labels; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_package_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    steps = (ScaleRange(-100, 300), Normalize(mean=2.0, nonzero=True), ScalePercentiles(1, 99, -1, 1, clip=False))
    folder = write_bright_blob_package(
        tmp_path / "two-blobs",
        labels=2,
        name="two-blobs",
        title="Two kinds of blobs",
        version="2.1.0",
        license="CC-BY-4.0",
        inputs=[InputSlot("T1", "MR", "a T1 image", 5)],
        preprocessing=Preprocessing("LPS", (1.5, None, 2.0), steps),
        window=Window((32, 64, 16), 0.25, "constant"),
        postprocessing=Postprocessing(largest_component=True, minimum_volume_ml=0.5),
        measured=Measured(3.5, None, 800.0, (64, 64, 32), (1.0, 1.0, 2.0)),
        metrics={"mean_dice": 0.97},
        authors="Somebody",
        citation="A paper",
        requires={"monai": "1.4"},
    )
    package = read_package(folder)
    assert (package.name, package.title, package.version) == ("two-blobs", "Two kinds of blobs", "2.1.0")
    assert (package.license, package.authors, package.citation) == ("CC-BY-4.0", "Somebody", "A paper")
    assert package.inputs == (InputSlot("T1", "MR", "a T1 image", 5),)
    assert package.labels == LABELS
    assert package.output_channels == 3
    assert package.preprocessing == Preprocessing("LPS", (1.5, None, 2.0), steps)
    assert package.window == Window((32, 64, 16), 0.25, "constant")
    assert package.postprocessing == Postprocessing(largest_component=True, minimum_volume_ml=0.5)
    assert package.measured == Measured(3.5, None, 800.0, (64, 64, 32), (1.0, 1.0, 2.0))
    assert package.metrics == {"mean_dice": 0.97}
    assert package.requires == {"monai": "1.4"}
    assert package.network_target == "monai.networks.nets.UNet"
    assert package.network_arguments["channels"] == [4, 8, 8]
    assert package.problems() == []


def test_a_package_is_a_complete_monai_bundle(bright_blob_package: Path) -> None:
    for file in ("configs/metadata.json", "configs/inference.json", "models/model.pt", "docs/README.md", "LICENSE"):
        assert (bright_blob_package / file).is_file(), file
    metadata = json.loads((bright_blob_package / "configs" / "metadata.json").read_text())
    needed = {
        "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
        "task", "description", "authors", "copyright", "network_data_format",
    }  # fmt: skip
    assert needed <= set(metadata)
    card = (bright_blob_package / "docs" / "README.md").read_text()
    assert "bright blob" in card
    assert "medseg segment" in card
    assert "not a medical device" in card


def test_the_capability_and_the_summary_are_plain_json(bright_blob_package: Path) -> None:
    package = read_package(bright_blob_package)
    summary = json.loads(json.dumps(package.summary()))
    assert summary["modalities"] == ["MR"]
    assert summary["labels"] == [{"value": 1, "name": "bright blob", "color": "#dd8265"}]
    assert summary["weights_sha256"] == package.weights_sha256
    assert summary["problems"] == []
    assert package.capability().items() <= package.summary().items()


def test_an_existing_folder_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    folder = write_bright_blob_package(tmp_path / "blob")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(WriteError, match="exists already"):
        write_bright_blob_package(folder)
    assert (folder / "notes.txt").is_file()
    write_bright_blob_package(folder, title="Newer", overwrite=True)
    assert read_package(folder).title == "Newer"
    assert not (folder / "notes.txt").exists()
    assert [item.name for item in tmp_path.iterdir()] == ["blob"]


def test_a_package_that_cannot_be_written_whole_is_not_there_at_all(tmp_path: Path) -> None:
    folder = write_bright_blob_package(tmp_path / "blob")
    before = sorted((path, path.stat().st_size) for path in folder.rglob("*"))
    with pytest.raises(ModelError):
        write_bright_blob_package(folder, name="Not A Name", overwrite=True)
    with pytest.raises(ModelError, match="labels need 5"):
        write_bright_blob_package(folder, labels=1, output_channels=5, overwrite=True)
    assert sorted((path, path.stat().st_size) for path in folder.rglob("*")) == before
    assert [item.name for item in tmp_path.iterdir()] == ["blob"]


def test_weights_under_two_names_are_stored_once(tmp_path: Path) -> None:
    import torch

    weights = torch.randn(64, 64, 8)
    shared = write_bright_blob_package(tmp_path / "one", state_dict={"a": weights, "b": weights})
    apart = write_bright_blob_package(tmp_path / "two", state_dict={"a": weights, "b": weights.clone()})
    assert read_package(shared).weights.bytes < 0.6 * read_package(apart).weights.bytes


def test_the_allowed_networks_are_those_of_the_registry() -> None:
    from medseg.networks.registry import ALLOWED_MODULES

    assert set(NETWORK_MODULES) == set(ALLOWED_MODULES)


def put(*path_and_value: Any) -> Any:
    """Return a change that sets (or, with ``...``, deletes) one value inside a JSON object."""
    *path, last, value = path_and_value

    def change(data: dict[str, Any]) -> None:
        for key in path:
            data = data[key]
        if value is ...:
            del data[last]
        else:
            data[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (put("medseg", ...), "without the section 'medseg'"),
        (put("medseg", "format", 99), "later MedSeg"),
        (put("medseg", "name", "Left Atrium"), "'name'"),
        (put("medseg", "name", "../up"), "'name'"),
        (put("medseg", "title", ...), "'title'"),
        (put("medseg", "verb", "dance"), "dance"),
        (put("medseg", "inputs", []), "0 inputs"),
        (put("medseg", "inputs", "image"), "list of objects"),
        (put("medseg", "inputs", [{}, {}]), "2 inputs"),
        (put("medseg", "weights", ...), "'weights'"),
        (put("medseg", "weights", "sha256", "abc"), "64 hexadecimal digits"),
        (put("medseg", "weights", "bytes", -1), "whole number"),
        (put("medseg", "weights", "bytes", True), "whole number"),
        (put("medseg", "weights", "file", "models/model.pkl"), "ends in .pt"),
        (put("medseg", "postprocessing", "largest_component", "yes"), "true or false"),
        (put("medseg", "measured", "seconds_cpu", float("nan")), "number"),
        (put("medseg", "requires", {"torch": "new"}), "lowest version"),
        (put("version", 3), "'version'"),
        (put("network_data_format", "outputs", "pred", "num_channels", 1), None),
        (put("network_data_format", "inputs", "image", "num_channels", 3), "1 inputs for a network of 3"),
        (put("eval_metrics", {"dice": "good"}), "'dice'"),
    ],
)
def test_metadata_that_make_no_sense_are_refused_by_name(a_package: Any, change: Any, sentence: str | None) -> None:
    folder = a_package.edit_metadata(change)
    if sentence is None:
        assert read_package(folder).output_channels == 1
        return
    with pytest.raises(ModelError) as caught:
        read_package(folder)
    assert sentence in str(caught.value)
    assert caught.value.advice


@pytest.mark.parametrize("file", ["configs/metadata.json", "configs/inference.json", "labels.csv"])
def test_a_missing_cut_or_foreign_file_is_named(a_package: Any, file: str) -> None:
    path = a_package.folder / file
    content = path.read_bytes()
    for damage in (content[: len(content) // 2], b"", b"\xff\xfe\x00", b"[" * 100_000, b"[1, 2]"):
        path.write_bytes(damage)
        with pytest.raises(ModelError) as caught:
            read_package(a_package.folder)
        assert Path(file).name in str(caught.value)
        assert caught.value.advice
    path.unlink()
    with pytest.raises(ModelError, match=Path(file).name):
        read_package(a_package.folder)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "nothing", tmp_path / "a\0b", tmp_path / ("x" * 5000)):
        with pytest.raises(ModelError, match="no model package"):
            read_package(place)


@pytest.mark.parametrize(
    "file",
    ["../outside.pt", "/etc/model.pt", "models/../../outside.pt", "C:\\model.pt", "C:model.pt", "\\\\host\\a.pt"],
)
def test_weights_outside_the_package_are_refused(a_package: Any, file: str) -> None:
    (a_package.folder.parent / "outside.pt").write_bytes(a_package.weights.read_bytes())
    folder = a_package.edit_metadata(put("medseg", "weights", "file", file))
    with pytest.raises(ModelError, match="outside itself"):
        read_package(folder)


@pytest.mark.parametrize("file", ["models/model.pt", "labels.csv", "configs/metadata.json"])
def test_links_that_lead_outside_the_package_are_refused(a_package: Any, file: str) -> None:
    inside = a_package.folder / file
    outside = a_package.folder.parent / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    with pytest.raises(ModelError, match="outside itself"):
        read_package(a_package.folder)


def test_a_link_inside_the_package_is_fine(a_package: Any) -> None:
    a_package.weights.rename(a_package.weights.with_name("other.pt"))
    a_package.weights.symlink_to("other.pt")
    read_package(a_package.folder).weights.verify()


def test_missing_and_cut_weights_are_problems_that_the_panel_can_show(a_package: Any) -> None:
    a_package.weights.write_bytes(a_package.weights.read_bytes()[:-7])
    package = read_package(a_package.folder)
    assert not package.weights.present
    assert "incomplete" in package.problems()[0]
    a_package.weights.unlink()
    assert "missing" in package.problems()[0]


def test_a_version_that_is_too_low_is_a_problem_that_names_both(a_package: Any) -> None:
    folder = a_package.edit_metadata(
        put("medseg", "requires", {"numpy": "999.1", "no-such-thing": "1", "medseg": "0.0.1"})
    )
    low, absent = read_package(folder).problems()
    assert "numpy 999.1 or later" in low
    assert "no-such-thing 1 or later, which is not installed" in absent


@pytest.mark.parametrize(
    ("lowest", "fits"), [("1.4", True), ("1.6.1", True), ("1.10", False), ("2", False), ("1.6.1.0", True)]
)
def test_versions_are_compared_as_numbers(a_package: Any, monkeypatch: Any, lowest: str, fits: bool) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1.6.1+cpu")
    package = read_package(a_package.edit_metadata(put("medseg", "requires", {"monai": lowest})))
    assert (package.problems() == []) is fits


def test_labels_beyond_the_output_of_the_network_are_refused(a_package: Any) -> None:
    write_labels(LabelTable(LABELS), a_package.folder / "labels.csv")
    with pytest.raises(ModelError, match="value 2, but the network"):
        read_package(a_package.folder)


TRANSFORMS = ("preprocessing", "transforms")


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        (put("network_def", "_target_", "os.system"), UntrustedModelError, "os.system"),
        (put("network_def", "_target_", "monai.networks.nets.unet.warnings.warn"), UntrustedModelError, "warnings"),
        (put("network_def", "_target_", "$__import__('os')"), UntrustedModelError, "__import__"),
        (put("network_def", "_target_", "monai.bundle.run"), UntrustedModelError, "monai.bundle.run"),
        (put("network_def", "in_channels", "$__import__('os').system('x')"), UntrustedModelError, "__import__"),
        (put("network_def", "act", {"_target_": "os.system"}), UntrustedModelError, "os.system"),
        (put("network_def", "act", [["%/etc/passwd"]]), UntrustedModelError, "/etc/passwd"),
        (put("network_def", "channels", [10**9]), ModelError, "too large"),
        (put("network_def", ...), ModelError, "network_def"),
        (put("preprocessing", "$eval('1')"), ModelError, "preprocessing"),
        (put("preprocessing", "_target_", "os.system"), UntrustedModelError, "os.system"),
        (put("preprocessing", "map_items", False), ModelError, "Compose"),
        (put(*TRANSFORMS, 0, "_target_", "os.system"), UntrustedModelError, "os.system"),
        (put(*TRANSFORMS, 0, "_target_", "$exec('1')"), UntrustedModelError, "exec"),
        (put(*TRANSFORMS, 0, "_target_", "Lambdad"), ModelError, "Lambdad"),
        (put(*TRANSFORMS, 0, "_target_", "RandFlipd"), ModelError, "RandFlipd"),
        (put(*TRANSFORMS, 0, "reader", "os.system"), UntrustedModelError, "os.system"),
        (put(*TRANSFORMS, 0, "reader", {"_target_": "evil"}), UntrustedModelError, "evil"),
        (put(*TRANSFORMS, 0, "keys", ["image", "label"]), ModelError, "other keys"),
        (put(*TRANSFORMS, 2, "axcodes", "RAT"), ModelError, "RAT"),
        (put(*TRANSFORMS, 2, "_target_", "EnsureTyped"), ModelError, "EnsureTyped"),
        (put(*TRANSFORMS, 3, "a_max", 0.0), ModelError, "range"),
        (put(*TRANSFORMS, 3, "a_max", "@other"), UntrustedModelError, "@other"),
        (put(*TRANSFORMS, 3, "clip", 1), ModelError, "clip"),
        (put(*TRANSFORMS, 3, "b_min", None), ModelError, "b_min"),
        (put(*TRANSFORMS, ["Compose"]), ModelError, "transforms"),
        (put("inferer", "_target_", "SimpleInferer"), ModelError, "SimpleInferer"),
        (put("inferer", "_target_", "evil.Inferer"), UntrustedModelError, "evil.Inferer"),
        (put("inferer", "roi_size", [0, 32, 32]), ModelError, "window"),
        (put("inferer", "roi_size", "$[1,2,3]"), UntrustedModelError, "$[1,2,3]"),
        (put("inferer", "overlap", 1.0), ModelError, "overlap"),
        (put("inferer", "mode", "median"), ModelError, "median"),
        (put("inferer", "with_coord", True), ModelError, "with_coord"),
        (put("inferer", "padding_mode", "reflect"), ModelError, "padding_mode"),
    ],
)
def test_a_configuration_that_we_do_not_know_is_refused_and_named(
    a_package: Any, change: Any, kind: type[ModelError], sentence: str
) -> None:
    with pytest.raises(ModelError) as caught:
        read_package(a_package.edit_inference(change))
    assert type(caught.value) is kind
    assert sentence in str(caught.value)
    assert caught.value.advice


def test_expressions_that_the_pipeline_has_no_use_for_are_never_evaluated(a_package: Any, tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    def lay(data: dict[str, Any]) -> None:
        expression = f"$open({str(trap)!r}, 'w')"
        data["imports"] = [expression]
        data["initialize"] = [expression]
        data["datalist"] = expression
        data["postprocessing"] = expression

    read_package(a_package.edit_inference(lay))
    assert not trap.exists()


def test_spellings_that_monai_accepts_are_understood(a_package: Any) -> None:
    def respell(data: dict[str, Any]) -> None:
        data["network_def"]["_target_"] = "monai.networks.nets.unet.UNet"
        transforms = data["preprocessing"]["transforms"]
        transforms[0] = {"_target_": "monai.transforms.LoadImageD", "keys": ["image"], "image_only": True}
        transforms[1]["_target_"] = "EnsureChannelFirstDict"
        transforms.insert(3, {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, -1, 0], "mode": ["bilinear"]})
        transforms[4] = {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
        transforms[4].update(subtrahend=[3], divisor=[2.5])
        transforms.append({"_target_": "CastToTyped", "keys": "image", "dtype": "$torch.float32"})
        data["inferer"].update({"roi_size": 48, "overlap": 0.25, "sw_batch_size": 4, "sw_device": "@device"})

    package = read_package(a_package.edit_inference(respell))
    assert package.network_target == "monai.networks.nets.UNet"
    assert package.preprocessing == Preprocessing("RAS", (1.5, None, None), (Normalize(3.0, 2.5),))
    assert package.window == Window((48, 48, 48), 0.25)


def test_an_intensity_step_before_the_resampling_is_refused(a_package: Any) -> None:
    def swap(data: dict[str, Any]) -> None:
        transforms = data["preprocessing"]["transforms"]
        transforms.insert(4, {"_target_": "Spacingd", "keys": "image", "pixdim": [1, 1, 1]})

    with pytest.raises(ModelError, match="Spacingd after a change of the intensities"):
        read_package(a_package.edit_inference(swap))
