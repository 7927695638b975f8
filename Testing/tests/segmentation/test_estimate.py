from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap

import pytest

from medseg.models import Measured
from medseg.segmentation import estimate
from medseg.segmentation.windows import SCORE_LIMIT_BYTES
from medseg.volumes import Geometry
from support.segmentation import package_of

GEOMETRY = Geometry.from_spacing((88, 576, 576), (0.625, 0.625, 0.625))
MEASURED = Measured(seconds_cpu=20.0, seconds_gpu=2.0, memory_mb_cpu=900.0, size=(576, 576, 88), spacing=(0.625,) * 3)


def a_package(**changes):
    return package_of(**{"window": (96, 96, 48), "spacing": (1.25, 1.25, 1.25), "measured": MEASURED, **changes})


def test_the_reference_image_costs_what_was_measured():
    cost = estimate(GEOMETRY, a_package(), "cpu")
    assert cost.seconds == pytest.approx(20.0)
    assert cost.memory_bytes == pytest.approx(900e6, rel=0.01)
    assert cost.windows == math.prod([4, 4, 1]) == 16
    assert estimate(GEOMETRY, a_package(), "cuda:0").seconds == pytest.approx(2.0)


def test_the_cost_does_not_depend_on_the_order_of_the_axes():
    turned = GEOMETRY.reoriented("ASL")
    assert estimate(turned, a_package(), "cpu") == estimate(GEOMETRY, a_package(), "cpu")


def test_a_larger_image_costs_more():
    larger = Geometry.from_spacing((176, 576, 576), (0.625,) * 3)
    assert estimate(larger, a_package(), "cpu").seconds > 1.8 * estimate(GEOMETRY, a_package(), "cpu").seconds


def test_a_package_without_measurements_still_gets_an_estimate():
    cost = estimate(GEOMETRY, a_package(measured=Measured()), "cpu")
    assert 0 < cost.seconds < 3600
    assert cost.memory_bytes > 4 * 288 * 288 * 44


def test_more_overlap_costs_more():
    assert estimate(GEOMETRY, a_package(), "cpu", overlap=0.7).seconds > estimate(GEOMETRY, a_package(), "cpu").seconds


def test_many_classes_are_planned_within_the_limit_and_the_plan_says_so():
    large = Geometry.from_spacing((600, 512, 512))
    package = package_of(classes=118, window=(128, 128, 128))
    cost = estimate(large, package, "cpu")
    assert "parts to save memory" in cost.plan
    assert cost.memory_bytes < 4 * 600 * 512 * 512 + 2 * 600 * 512 * 512 + SCORE_LIMIT_BYTES + 4 * 402 * 128**3 + 1


def test_estimating_and_the_package_need_no_torch():
    code = """
        import sys
        import medseg.segmentation, medseg.segmentation.seg_nrrd, medseg.segmentation.statistics
        from medseg.segmentation import SegmentOptions, estimate
        heavy = {"torch", "monai", "SimpleITK", "scipy"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


_CHILD = """
import gc, json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from medseg.device import peak_memory
from medseg.errors import Cancelled
from medseg.progress import Progress
from medseg.segmentation import SegmentOptions, estimate, segment
from medseg.volumes import Geometry, Volume
from support.segmentation import package_of, random_network

def now():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def volume(shape):
    array = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    return Volume(array, Geometry.from_spacing(shape))

package, network = package_of(classes=13, window=(48, 48, 48)), random_network(13)
segment([volume((50, 50, 50))], package, network=network)
image = volume((160, 200, 180))
base = now()
seen = []
try:
    progress = Progress(lambda *_: seen.append(now()), lambda: len(seen) > 45)
    segment([image], package, network=network, progress=progress)
except Cancelled:
    pass
after_cancel = now()
most = max(seen)
segment([image], package, SegmentOptions(statistics=False), network=network)
print(json.dumps({
    "held": most - base,
    "left": after_cancel - base,
    "peak": peak_memory() - base,
    "estimate": estimate(image.geometry, package, "cpu").memory_bytes,
    "whole": 13 * 4 * image.array.size,
}))
"""


@pytest.fixture(scope="module")
def a_measured_run(repository):
    """A run of 13 classes in a process of its own: what it held, what it left after a cancel, and its peak (bytes)."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(repository / "Testing")], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def test_the_estimated_memory_is_within_a_factor_of_two_of_the_peak(a_measured_run):
    assert 0.5 < a_measured_run["estimate"] / a_measured_run["peak"] < 2.0


def test_memory_stays_far_below_that_of_whole_scores(a_measured_run):
    assert a_measured_run["peak"] < 0.75 * a_measured_run["whole"]


def test_a_cancelled_run_gives_its_memory_back(a_measured_run):
    assert a_measured_run["held"] > 50e6
    assert a_measured_run["left"] < 0.2 * a_measured_run["held"]
