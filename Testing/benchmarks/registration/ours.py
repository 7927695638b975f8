"""Our own methods, called as a user of the Python interface calls them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from medseg.registration import RegistrationOptions, register

if TYPE_CHECKING:
    from benchmarks.registration.job import Job
    from medseg.registration import SpatialTransform


def ours(job: Job, method: str, effort: str, similarity: str | None = None) -> SpatialTransform:
    """Return what :func:`medseg.registration.register` finds on the processor; measured with its figures of quality.

    ``similarity`` is what the images are compared by; ``None`` leaves that to the method.
    """
    import torch

    # What a deformable method imports when it starts, which the other programs have done by then.
    importlib.import_module("medseg.registration.deformation")
    from medseg.registration.instance import Objective

    torch.set_num_threads(job.threads)
    (fixed, moving), masks = job.volumes(), job.masks()
    objective = None if similarity is None else Objective(similarity=similarity)
    options = RegistrationOptions(method=method, refine=effort, objective=objective, device="cpu", seed=job.seed)
    with job.measured():
        result = register(fixed, moving, options, **masks)
    return result.transform
