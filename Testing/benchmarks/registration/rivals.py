"""The rivals, each called as its documentation calls it, on the files of a job.

Nothing is tuned: where a program has defaults, these are used. Each function reads and imports first, registers within
``job.measured()``, and turns what it got into a transform after that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.registration import AlignmentOptions, DisplacementField, SpatialTransform, align, read_transform

if TYPE_CHECKING:
    from benchmarks.registration.job import Job
    from medseg.volumes import Geometry

_ELASTIX_STEPS = ("translation", "affine", "bspline")
"""elastix's own order when nothing is asked for, each with its default parameter map."""
_DEMONS_SHRINK, _DEMONS_SMOOTH_MM = (4, 2, 1), (8.0, 4.0, 0.0)
_DEMONS_ITERATIONS, _DEMONS_SMOOTHNESS = 20, 2.0
"""Those of the Demons notebook of SimpleITK: 20 iterations a level, field smoothed by 2 voxels."""
_DEMONS_BINS, _DEMONS_MATCHES = 1024, 7
_LEAST_SIZE = 8


def ants(job: Job, preset: str) -> SpatialTransform:
    """Return what ``ants.registration`` finds with one of its types of transform, otherwise with its defaults."""
    import ants

    images = {name: ants.image_read(str(path)) for name in ("fixed", "moving") if (path := job.path(name))}
    masks = {
        word: ants.image_read(str(path))
        for word, name in (("mask", "fixed_mask"), ("moving_mask", "moving_mask"))
        if (path := job.path(name))
    }
    with job.measured():
        found = ants.registration(
            **images,
            **masks,
            type_of_transform=preset,
            outprefix=str(job.folder / "ants-"),
            write_composite_transform=True,
        )
    return read_transform(found["fwdtransforms"])


def elastix(job: Job) -> SpatialTransform:
    """Return what elastix finds with its default parameter maps: translation, affine, B-spline of 10 mm."""
    import itk

    fixed, moving = (itk.imread(str(job.path(name)), itk.F) for name in ("fixed", "moving"))
    masks = {name: itk.imread(str(path), itk.UC) for name in ("fixed_mask", "moving_mask") if (path := job.path(name))}
    parameters = itk.ParameterObject.New()
    for step in _ELASTIX_STEPS:
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(step))
    register = itk.elastix_registration_method
    with job.measured():
        _, found = register(
            fixed,
            moving,
            parameter_object=parameters,
            number_of_threads=job.threads,
            **masks,
        )
    # A B-spline is known at the voxels of the fixed volume, which are all that is looked at.
    vectors = itk.array_from_image(itk.transformix_deformation_field(moving, found))
    return SpatialTransform((_field(vectors, job.volumes()[0].geometry),))


def demons(job: Job) -> SpatialTransform:
    """Return what SimpleITK's diffeomorphic Demons find after our affine alignment, which is SimpleITK's too.

    Three levels as in SimpleITK's notebook on Demons, the brightness of the moving volume fitted to that of the fixed
    one before. The filter takes no masks; the alignment does.
    """
    import SimpleITK as sitk

    (fixed, moving), masks = job.volumes(), job.masks()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(job.threads)
    with job.measured():
        linear = align(fixed, moving, AlignmentOptions("affine", seed=job.seed), **masks)
        still = fixed.with_array(fixed.array.astype(np.float32)).to_sitk()
        moved = linear.resample(moving, fixed.geometry, fill=float(moving.array.min())).to_sitk()
        moved = sitk.HistogramMatching(moved, still, _DEMONS_BINS, _DEMONS_MATCHES, True)
        vectors = sitk.GetArrayFromImage(_demons_field(still, moved))
    return SpatialTransform((_field(vectors, fixed.geometry),)).then(linear)


def _demons_field(fixed: Any, moving: Any) -> Any:
    import SimpleITK as sitk

    method = sitk.DiffeomorphicDemonsRegistrationFilter()
    method.SetNumberOfIterations(_DEMONS_ITERATIONS)
    method.SetSmoothDisplacementField(True)
    method.SetStandardDeviations(_DEMONS_SMOOTHNESS)
    field = None
    for factor, sigma in zip(_DEMONS_SHRINK, _DEMONS_SMOOTH_MM, strict=True):
        still, moved = (_level(image, factor, sigma) for image in (fixed, moving))
        if field is not None:
            field = sitk.Resample(field, still)
        field = method.Execute(still, moved) if field is None else method.Execute(still, moved, field)
    return sitk.Cast(field, sitk.sitkVectorFloat64)


def _level(image: Any, factor: int, sigma_mm: float) -> Any:
    """Return an image smoothed and coarser, but for axes that would be left with hardly a voxel."""
    import SimpleITK as sitk

    factors = [max(min(factor, size // _LEAST_SIZE), 1) for size in image.GetSize()]
    if sigma_mm > 0:
        image = sitk.DiscreteGaussian(image, [sigma_mm**2] * 3)
    return sitk.Shrink(image, factors) if max(factors) > 1 else image


def _field(vectors_lps: np.ndarray, geometry: Geometry) -> DisplacementField:
    return DisplacementField(np.asarray(vectors_lps, np.float64) * [-1.0, -1.0, 1.0], geometry)
