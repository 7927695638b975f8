"""What the panel says about a model, and about a model together with a volume. Text only: no widgets, no nodes."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medseg.models import ModelPackage
    from medseg.segmentation.estimate import Estimate
    from medseg.volumes import Geometry

MAXIMUM_STRUCTURES = 12


def cardHtml(package: ModelPackage) -> str:
    """Return the card of a model: description, inputs, structures, cost, licence."""
    rows = [
        (_("Input"), _inputs(package)),
        (_("Structures"), _structures(package)),
        (_("Measured"), _measured(package)),
        (_("Accuracy"), _accuracy(package)),
        (_("License"), escape(package.license)),
        (_("Version"), f"{escape(package.version)} ({escape(package.name)})"),
        (_("Citation"), escape(package.citation)),
    ]
    return f"<b>{escape(package.title)}</b><br>{escape(package.description)}{cardTable(rows)}"


def cardTable(rows: Iterable[tuple[str, str]]) -> str:
    """Return the table of a card: a name and HTML for each row; rows without a text are left out."""
    cells = "".join(
        f'<tr><td style="padding-right:8px;"><i>{escape(name)}</i></td><td>{value}</td></tr>'
        for name, value in rows
        if value
    )
    return f"<table>{cells}</table>"


def brokenCardHtml(name: str, sentence: str) -> str:
    """Return the card of a model that cannot be used."""
    return f"<b>{escape(name)}</b><br>{escape(_('This model cannot be used.'))} {escape(sentence)}"


def _inputs(package: ModelPackage) -> str:
    texts = []
    for slot in package.inputs:
        description = "" if slot.description == package.description else slot.description.rstrip(".")
        about = ", ".join(part for part in (slot.modality or _("any modality"), description) if part)
        texts.append(f"{escape(slot.name)} ({escape(about)})")
    return "<br>".join(texts)


def _structures(package: ModelPackage) -> str:
    names = [escape(label.name) for label in package.labels]
    more = len(names) - MAXIMUM_STRUCTURES
    if more > 0:
        names[MAXIMUM_STRUCTURES:] = [_("and {count} more").format(count=more)]
    return ", ".join(names)


def _measured(package: ModelPackage) -> str:
    measured = package.measured
    parts = []
    if measured.seconds_cpu is not None:
        parts.append(_("{duration} on the CPU").format(duration=durationText(measured.seconds_cpu)))
    if measured.seconds_gpu is not None:
        parts.append(_("{duration} on a GPU").format(duration=durationText(measured.seconds_gpu)))
    if measured.memory_mb_cpu is not None:
        parts.append(_("{amount} of memory").format(amount=memoryText(measured.memory_mb_cpu * 1e6)))
    if not parts:
        return ""
    if measured.size is not None:
        parts.append(_("for {size} voxels").format(size=" × ".join(map(str, measured.size))))
    return escape(", ".join(parts))


def _accuracy(package: ModelPackage) -> str:
    dice = package.metrics.get("mean_dice")
    return "" if dice is None else escape(_("mean Dice {dice:.3f}").format(dice=float(dice)))


def hints(package: ModelPackage, modality: str) -> list[str]:
    """Return what speaks against running ``package`` on a volume of ``modality`` (empty: not known)."""
    found = []
    if not package.weights.present:
        found.append(_("The weights of this model are missing or incomplete. Install the model again."))
    wanted = package.inputs[0].modality if package.inputs else ""
    if modality and wanted and modality != wanted:
        found.append(
            _("The volume is {modality}, but this model was made for {wanted}. Expect a wrong result.").format(
                modality=modality, wanted=wanted
            )
        )
    if len(package.inputs) > 1:
        found.append(_("This model takes {count} volumes; the panel gives it one.").format(count=len(package.inputs)))
    return found


def estimateText(geometry: Geometry, package: ModelPackage, device: str) -> str:
    """Return the seconds and memory that a run will need; with an automatic device, for the CPU and for a GPU."""
    from medseg.segmentation.estimate import estimate

    if device == "auto":
        cpu, gpu = estimate(geometry, package, "cpu"), estimate(geometry, package, "cuda")
        return _("Estimate: {cpu} on the CPU, {gpu} on a GPU; {memory} of memory.").format(
            cpu=durationText(cpu.seconds), gpu=durationText(gpu.seconds), memory=memoryText(cpu.memory_bytes)
        )
    cost: Estimate = estimate(geometry, package, device)
    return _("Estimate: {duration}; {memory} of memory.").format(
        duration=durationText(cost.seconds), memory=memoryText(cost.memory_bytes)
    )


def durationText(seconds: float) -> str:
    """Return a duration as a person would say it: "8 s", "3 min"."""
    if seconds < 1.5:
        return _("1 s")
    if seconds < 99.5:
        return _("{count} s").format(count=round(seconds))
    if seconds < 5400:
        return _("{count} min").format(count=round(seconds / 60))
    return _("{count:.1f} h").format(count=seconds / 3600)


def memoryText(amount: float) -> str:
    """Return a number of bytes as a person would say it: "850 MB", "1.4 GB"."""
    if amount < 1e9:
        return _("{count} MB").format(count=max(1, round(amount / 1e6)))
    return _("{count:.1f} GB").format(count=amount / 1e9)
