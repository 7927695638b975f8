"""Models as data: packages, the library of those that are there, and their safe loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.models.archive import import_zip
from medseg.models.choices import Choice, choose
from medseg.models.correction import Correction, correction_preprocessing
from medseg.models.installing import install_folder, remove_model
from medseg.models.instances import InstanceGroup, Instances
from medseg.models.intensity import IntensityStep, Normalize, ScalePercentiles, ScaleRange
from medseg.models.library import ModelLibrary, bundled_folder, user_models_folder
from medseg.models.package import InputSlot, Measured, ModelPackage, Postprocessing, WeightsFile
from medseg.models.preprocessing import FitInPlane, Preprocessing, Window
from medseg.models.reading import read_package
from medseg.models.registration import Registration, registration_preprocessing

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Choice",
    "Correction",
    "FitInPlane",
    "InputSlot",
    "InstanceGroup",
    "Instances",
    "IntensityStep",
    "Measured",
    "ModelLibrary",
    "ModelPackage",
    "Normalize",
    "Postprocessing",
    "Preprocessing",
    "Registration",
    "ScalePercentiles",
    "ScaleRange",
    "WeightsFile",
    "Window",
    "bundled_folder",
    "choose",
    "correction_preprocessing",
    "import_zip",
    "install_folder",
    "load_network",
    "read_package",
    "registration_preprocessing",
    "remove_model",
    "user_models_folder",
    "write_package",
]


def load_network(package: ModelPackage, device: str = "cpu") -> nn.Module:
    """See :func:`medseg.models.loading.load_network`, which is imported (with torch) when it is needed."""
    from medseg.models.loading import load_network as load

    return load(package, device)


def write_package(*args: Any, **kwargs: Any) -> ModelPackage:
    """See :func:`medseg.models.writing.write_package`."""
    from medseg.models.writing import write_package as write

    return write(*args, **kwargs)
