"""What the computing process can do: each verb takes a request and volumes and gives a parcel.

torch, monai and the pipelines are imported when they are needed first: the process answers before that.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medseg.backend.encoding import Parcel, encode_result
from medseg.backend.interpreter import MINIMUM_VERSIONS, package_problem
from medseg.backend.verbs_analysis import compare_instances_verb, split_instances_verb
from medseg.backend.verbs_attention import attention_row_verb
from medseg.backend.verbs_correction import WarmSessions, correct_verb
from medseg.backend.verbs_registration import register_verb
from medseg.backend.verbs_smoothing import smooth_transform_verb
from medseg.backend.verbs_transfer import transfer_verb
from medseg.device import choose_device
from medseg.errors import InputError, WorkerError

if TYPE_CHECKING:
    from medseg.models import ModelPackage
    from medseg.progress import Progress
    from medseg.volumes import Volume

WARM_MODELS = 2


@dataclass
class WarmModels:
    """The networks of the last few packages, loaded and ready; the least recently used leaves first."""

    limit: int = WARM_MODELS
    _networks: OrderedDict[tuple[Any, ...], Any] = field(default_factory=OrderedDict)

    def get(self, package: ModelPackage) -> Any:
        """Return the network of ``package``, a torch module, on whatever device its last run has left it."""
        from medseg.models import load_network

        key = package.identity
        if key in self._networks:
            self._networks.move_to_end(key)
            return self._networks[key]
        while len(self._networks) >= self.limit:
            self._networks.popitem(last=False)
        network = self._networks[key] = load_network(package)
        return network


@dataclass
class Task:
    """One job as a verb sees it: the request's ``model`` and ``options``, its volumes, the warm models, progress.

    The volumes have no names (those never leave the client); a verb may give them its own for what it tells the user.
    ``finishing()`` says whether the user asked to stop and keep the best so far, which only a verb that works in steps
    can heed; ``tell(name, value)`` passes on a number that changes while the job runs. ``addresses`` are those of the
    volumes, equal for equal volumes; ``sessions`` are what earlier jobs of an interaction have left.
    """

    model: str
    options: dict[str, Any]
    volumes: list[Volume]
    models: WarmModels
    progress: Progress
    finishing: Callable[[], bool] = lambda: False
    tell: Callable[[str, float], None] = lambda _name, _value: None
    addresses: tuple[str, ...] = ()
    sessions: WarmSessions = field(default_factory=WarmSessions)


Verb = Callable[[Task], Parcel]


def segment_verb(task: Task) -> Parcel:
    """Segment the volumes with a model package (:func:`medseg.segmentation.segment`).

    The option "choices" is what was chosen of the model: texts by name (:func:`medseg.models.choose`).
    """
    from medseg.segmentation import SegmentOptions, segment
    from medseg.volumes import Volume

    given = dict(task.options)
    package = _chosen(task.model, given.pop("choices", {}))
    options = make_options(SegmentOptions, given)
    task.progress.update(0.0, "Loading the model")
    network = task.models.get(package)
    names = [slot.name for slot in package.inputs] + [""] * len(task.volumes)
    volumes = [
        Volume(volume.array, volume.geometry, name=name, modality=volume.modality)
        for volume, name in zip(task.volumes, names, strict=False)
    ]
    return encode_result(segment(volumes, package, options, network=network, progress=task.progress))


def make_options(kind: Any, given: dict[str, Any]) -> Any:
    """Return the options of a verb, a dataclass ``kind``, from those of a request.

    Raises
    ------
    InputError
        When there is no such option, or a value cannot be used.
    """
    known = {item.name for item in dataclasses.fields(kind)}
    unknown = sorted(set(given) - known)
    if unknown:
        message = f"There is no option {', '.join(unknown)}."
        raise InputError(message, advice=f"The options are: {', '.join(sorted(known))}.")
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        message = f"An option has a value that cannot be used: {error}."
        raise InputError(message, advice="Check the options.") from error


def estimate_call(request: dict[str, Any]) -> dict[str, Any]:
    """Tell what a run would need: seconds, bytes, windows, plan, and the device that it would use."""
    from medseg.backend.encoding import geometry_from_dict
    from medseg.device import available_memory
    from medseg.segmentation import estimate

    package = _chosen(str(request.get("model", "")), request.get("choices") or {})
    choice = choose_device(str(request.get("device", "auto")))
    found = estimate(geometry_from_dict(request.get("geometry")), package, choice.device)
    return {
        **dataclasses.asdict(found),
        "device": choice.device,
        "device_name": choice.name,
        "device_reason": choice.reason,
        "available_bytes": available_memory(choice.device),
    }


def _chosen(model: str, choices: Any) -> ModelPackage:
    from medseg.models import ModelLibrary, choose

    if not isinstance(choices, dict) or not all(isinstance(text, str) for pair in choices.items() for text in pair):
        raise InputError("What was chosen of the model is not texts by name.", advice="Check the options.")
    return choose(ModelLibrary().find(model), choices)


VERBS: dict[str, Verb] = {
    "segment": segment_verb,
    "attention_row": attention_row_verb,
    "split_instances": split_instances_verb,
    "compare_instances": compare_instances_verb,
    "transfer": transfer_verb,
    "register": register_verb,
    "correct": correct_verb,
    "smooth_transform": smooth_transform_verb,
}
CALLS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"estimate": estimate_call}


def prepare() -> dict[str, str]:
    """Import what the verbs need, which takes seconds, before the first job asks; return the versions.

    monai is only looked up: importing it takes longer than torch and 200 MB, and only some models need it.

    Raises
    ------
    WorkerError
        When a package is missing, does not load or is too old.
    """
    versions = {}
    for name, minimum in MINIMUM_VERSIONS.items():
        try:
            versions[name] = _installed_version(name) if name in _LOOKED_UP else _imported_version(name)
        except (ImportError, OSError, RuntimeError) as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == name
            what = "is not installed" if missing else f"cannot be imported ({' '.join(str(error).split())[:200]})"
            message = f"{name} {what} in the Python environment of the worker."
            raise WorkerError(
                message, advice="Install it there, or choose another environment in the settings."
            ) from error
        problem = package_problem(name, versions[name], minimum)
        if problem:
            message = f"The worker's Python environment has {problem}."
            raise WorkerError(message, advice="Update it there, or choose another environment in the settings.")
    importlib.import_module("medseg.segmentation.pipeline")
    return versions


_LOOKED_UP = frozenset({"monai"})


def _imported_version(name: str) -> str:
    module = importlib.import_module(name)
    return str(module.Version_VersionString() if name == "SimpleITK" else getattr(module, "__version__", "?"))


def _installed_version(name: str) -> str:
    if importlib.util.find_spec(name) is None:
        message = f"No module named {name!r}"
        raise ModuleNotFoundError(message, name=name)
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        # A copy that was put there by hand; it says its version when a model needs it.
        return "?"
