"""The errors that a user may see: one sentence with the cause, one with the next step.

Every error that MedSeg raises on purpose is a :class:`MedSegError`. Anything else that reaches a face (panel, command
line, server) is a defect of MedSeg and is reported as one.
"""

from __future__ import annotations

from typing import Any


class MedSegError(Exception):
    """An error with a cause (``message``) and a next step (``advice``), both whole sentences.

    ``str(error)`` is what the user reads. Errors cross process borders as dictionaries (:meth:`to_dict`,
    :func:`error_from_dict`) and come back as the same class.
    """

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message, advice)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()

    def to_dict(self) -> dict[str, str]:
        """Return ``{"kind", "message", "advice"}``, which is safe to send as JSON."""
        return {"kind": type(self).__name__, "message": self.message, "advice": self.advice}


class InputError(MedSegError):
    """What the user gave cannot be used: an empty volume, a wrong option, a folder with two series."""


class GeometryError(InputError):
    """A voxel grid that no scanner makes or that the operation cannot take: singular, non-finite, sheared."""


class ReadError(InputError):
    """A file or folder that cannot be read as what it should be."""


class WriteError(MedSegError):
    """A result that could not be written: no permission, disk full. What stood there before is untouched."""


class ModelError(MedSegError):
    """A model package that is missing, incomplete, damaged or too new."""


class UntrustedModelError(ModelError):
    """A model package that wants to run code of its own; refused without running any of it."""


class DeviceError(MedSegError):
    """A computing device that is not there or cannot run the model."""


class DeviceMemoryError(DeviceError):
    """The device has too little memory for the job, also with the smallest plan."""


class WorkerError(MedSegError):
    """The background worker could not be started, has died or gave an answer that makes no sense."""


class RecipeError(InputError):
    """A training recipe or a training data set that cannot be used."""


class TrainingError(MedSegError):
    """Training that cannot go on: a loss that is not a number, a checkpoint of another network."""


class Cancelled(MedSegError):  # noqa: N818 - not an error in the user's eyes, and read as such in `except` clauses
    """The user asked to stop. Nothing is written."""

    def __init__(self, message: str = "Cancelled.", *, advice: str = "") -> None:
        super().__init__(message, advice=advice)


_KINDS: dict[str, type[MedSegError]] = {
    kind.__name__: kind
    for kind in (
        MedSegError,
        InputError,
        GeometryError,
        ReadError,
        WriteError,
        ModelError,
        UntrustedModelError,
        DeviceError,
        DeviceMemoryError,
        WorkerError,
        RecipeError,
        TrainingError,
        Cancelled,
    )
}


def error_from_dict(data: dict[str, Any]) -> MedSegError:
    """Rebuild an error from :meth:`MedSegError.to_dict`; an unknown kind becomes a plain :class:`MedSegError`."""
    kind = _KINDS.get(str(data.get("kind", "")), MedSegError)
    return kind(str(data.get("message", "Unknown error.")), advice=str(data.get("advice", "")))
