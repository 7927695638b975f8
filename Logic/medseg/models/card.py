"""The model card (``docs/README.md``) and licence note of a package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.models.correction import is_flat

if TYPE_CHECKING:
    from medseg.models.correction import Correction
    from medseg.models.package import ModelPackage
    from medseg.models.registration import Registration


def model_card(package: ModelPackage, more: str = "") -> str:
    """Return the card of ``package`` in Markdown: purpose, inputs, labels, cost, how to run it, licence, citation.

    ``more`` is put before the licence: training data, accuracy, limits.
    """
    parts = [
        f"# {package.title}",
        package.description,
        f"Model `{package.name}`, version {package.version}. Licence: {package.license}.",
        "## Inputs",
        _table(
            ("Input", "Modality", "Description", "Fewest slices"),
            [
                (slot.name, slot.modality or "any", slot.description, str(slot.minimum_slices))
                for slot in package.inputs
            ],
        ),
        _grid(package),
        *(["## Pairs", _pairs(package.registration)] if package.registration else []),
        *(["## Clicks", _clicks(package.correction)] if package.correction else []),
        "## Labels" if package.verb == "segment" else "## Structures by which it was measured",
        _table(
            ("Value", "Name", "Colour", "Category", "Type", "Region"),
            [
                (
                    str(label.value),
                    label.name,
                    label.color_hex,
                    str(label.category),
                    ", ".join(str(code) for code in (label.type, label.type_modifier) if code),
                    ", ".join(str(code) for code in (label.region, label.region_modifier) if code),
                )
                for label in package.labels
            ],
        ),
    ]
    if package.instances is not None:
        parts += ["## Single bones", _instances(package)]
    measured = _measured(package)
    if measured:
        parts += ["## Measured", measured]
    if more.strip():
        parts.append(more.strip())
    parts += [
        "## How to run it",
        "With MedSeg: the panel in 3D Slicer, or",
        f"```\n{_command(package)}\n```",
        *_with_monai(package),
        "## Licence and use",
        f"{package.license}; see `LICENSE`. Research software: not a medical device, not for diagnosis.",
    ]
    if package.citation:
        parts += ["## Citation", package.citation]
    return "\n\n".join(parts) + "\n"


def license_text(name: str) -> str:
    """Return the text of ``LICENSE`` when the author gives none: the licence's name and where its text is."""
    return f"This model is licensed under {name}.\nThe text of the licence: https://spdx.org/licenses/{name}.html\n"


def _grid(package: ModelPackage) -> str:
    """Return what the network works on."""
    size = " x ".join(map(str, package.window.size_ijk))
    if package.correction is not None and is_flat(package.window):
        pixels = " x ".join(map(str, package.window.size_ijk[:2]))
        return f"The network sees a part of one slice around what was pointed at, in a grid of {pixels} pixels."
    if package.correction is not None:
        return f"The network sees a box around what was pointed at, in a grid of {size} voxels."
    grid = f"The network works on axes {package.preprocessing.orientation} at {_spacing(package)}"
    if package.registration is not None:
        return f"{grid}, on the whole volume; it was trained on grids of {size} voxels."
    return f"{grid}, in windows of {size} voxels."


def _pairs(registration: Registration) -> str:
    """Return which pairs a model that registers was trained for, and how smooth its fields are."""
    seen = " It was trained on synthetic pairs alone and has never seen a real scan." if registration.synthetic else ""
    smoothness = (
        f"The smoothness can be chosen from 0 to 1; {registration.smoothness:g} is used unless told otherwise."
        if registration.conditional
        else f"It was trained for a smoothness of {registration.smoothness:g}, which cannot be chosen."
    )
    return f"Trained for: {registration.domain}.{seen} {smoothness}"


def _clicks(correction: Correction) -> str:
    """Return what a model that follows clicks was trained for."""
    return f"Trained for: {correction.domain}. It knows no names: it segments what is pointed at, and repairs it."


def _command(package: ModelPackage) -> str:
    if package.correction is not None:
        return f"medseg correct VOLUME SEGMENTATION --segment NAME --prompts P.json --model {package.name} --output OUT"
    if package.registration is not None:
        return f"medseg register FIXED MOVING --method model --model {package.name} --output-transform T.h5"
    return f"medseg segment IMAGE --model {package.name} --output OUT.seg.nrrd"


def _spacing(package: ModelPackage) -> str:
    sizes, fit = package.preprocessing.spacing, package.preprocessing.fit_in_plane
    if fit is not None:
        along = "the image's own spacing" if sizes[2] is None else f"{sizes[2]:g} mm"
        return f"{along} along the last, the body stretched to {fit.size[0]} x {fit.size[1]} voxels in the plane"
    if all(size is None for size in sizes):
        return "the voxel size of the image"
    return " x ".join("as in the image" if size is None else f"{size:g}" for size in sizes) + " mm"


def _instances(package: ModelPackage) -> str:
    """Return what the labels with instances are separated into, and how."""
    assert package.instances is not None
    ways = {
        ("embedding", "overwrite"): "embeddings; where windows overlap the lower one is taken, but for what it cuts",
        ("embedding", "join"): "embeddings; what shares more than 10 voxels of two windows is one",
    }
    rows: list[tuple[str, ...]] = []
    for group in package.instances.groups:
        label = package.labels.by_value(group.label)
        way = ways.get((group.method, group.rule), f"connected components ({group.connectivity} neighbours)")
        least = f"{group.minimum_mm3:g} mm³" if group.minimum_mm3 else f"{group.minimum_voxels} voxels of its own grid"
        rows.append((label.name, f"{group.name or label.name} 1, 2, ...", way, least))
    table = _table(("Label", "Becomes", "By", "Smallest"), rows)
    return f"Numbered from the head to the feet, which are not anatomical numbers.\n\n{table}"


def _with_monai(package: ModelPackage) -> list[str]:
    if package.instances is not None and package.instances.needs_embeddings:
        return ["MONAI's bundle runner takes networks with one output only, and this one has a second for the bones."]
    run = "python -m monai.bundle run --meta_file configs/metadata.json --config_file configs/inference.json"
    if package.registration is not None:
        command = f"```\n{run} --fixed FIXED.nii.gz --moving MOVING.nii.gz --output_dir OUT\n```"
        return ["With MONAI alone, in this folder, for two volumes that are aligned:", command]
    if package.correction is not None:
        files = "--image IMAGE.nii.gz --positive P.nii.gz --negative N.nii.gz --previous M.nii.gz"
        return ["With MONAI alone, in this folder, for one window:", f"```\n{run} {files} --output_dir OUT\n```"]
    command = f"```\n{run} --dataset_dir IMAGES --output_dir OUT\n```"
    return ["With MONAI alone, in this folder, for every `*.nii.gz` of a folder:", command]


def _measured(package: ModelPackage) -> str:
    measured = package.measured
    rows: list[tuple[str, ...]] = [(name.replace("_", " "), f"{value:g}") for name, value in package.metrics.items()]
    for title, value, unit in (
        ("time on two CPU cores", measured.seconds_cpu, "s"),
        ("time on a GPU", measured.seconds_gpu, "s"),
        ("peak memory on the CPU", measured.memory_mb_cpu, "MB"),
    ):
        if value is not None:
            rows.append((title, f"{value:g} {unit}"))
    if measured.size:
        rows.append(("image of that run", " x ".join(map(str, measured.size)) + " voxels"))
    return _table(("What", "Value"), rows) if rows else ""


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
