"""The tables: which pairs stand together, how it is known what is right, and what the goal is."""

from __future__ import annotations

from benchmarks.registration.known_warp import MEAN_MM
from benchmarks.registration.pair import Group

_KNOWN = (
    f"The fixed volume is the real one after a known smooth warp of {MEAN_MM:g} mm on average and a small known affine"
    " change, so the error is known at every voxel of the body."
)

GROUPS: dict[str, Group] = {
    "brain-mr": Group(
        "Brain MR, known warps",
        (
            "Three real brain volumes of 1 mm (one of them an average brain, one without skull), two warps each."
            f" {_KNOWN}"
        ),
        "mm",
        goal="syn",
    ),
    "brain-contrasts": Group(
        "Brain MR of two contrasts, known warps",
        f"T1 and proton density of one person, and an average brain with a made-up contrast of itself. {_KNOWN}",
        "mm",
        "several",
        goal="elastix",
        notes=(
            (
                "T1 and proton density do not lie on each other as they come; what counts as right there is our rigid"
                " alignment of the unwarped pair by mutual information, two runs of which differ by up to 0.5 mm."
            ),
        ),
    ),
    "ct-mr": Group(
        "CT and MR of four thighs and trunks with sarcoma, known warps",
        f"CT and T1 of one patient, which the data set gives in one frame. {_KNOWN}",
        "mm",
        "several",
        goal="elastix",
        notes=(
            (
                "Muscle lies differently in the two scanners: rigid alignment by mutual information moves the corners"
                " of these volumes by 2 to 7 mm from where the data set puts them. Errors of this table have such a"
                " floor; it compares methods and is no measure of accuracy."
            ),
        ),
    ),
    "lung-ct": Group(
        "Lung CT, baseline and follow-up",
        "One patient, 51 landmarks that lie inside both volumes; masks of the lungs for whoever takes masks.",
        "mm",
    ),
    "trunk-ct": Group("CT of the trunk, known warps", f"Two real crops of the thorax. {_KNOWN}", "mm"),
    "head-neck-ct": Group(
        "CT of head and neck, different patients",
        "Six pairs of patients in whom all seven organs are annotated; Dice of the organs.",
        "dice",
    ),
    "cardiac-mr": Group(
        "Cine MR of the heart, end-diastole and end-systole",
        "Six patients; Dice of both ventricles and the myocardium. Slices are 10 mm thick.",
        "dice",
    ),
    "hippocampus-mr": Group(
        "MR of hippocampi, different patients", "Ten pairs of small crops; Dice of the two parts.", "dice"
    ),
    "painted-brains": Group(
        "Painted brains, different people (no real scans)",
        "Label maps of real people, painted as T1 or T2; Dice of 29 structures.",
        "dice",
        notes=(
            (
                "No scan belongs to these label maps. A model that was trained on pairs painted from the same maps has"
                " seen these shapes, if not these images."
            ),
        ),
    ),
}
