"""Prepared cases stay within a bound of memory."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from medseg.errors import Cancelled, WriteError
from medseg.progress import NO_PROGRESS
from medseg.training import preparation
from medseg.training.augmentation import PatchSampler
from medseg.training.cache import CaseCache, shared
from medseg.training.data import PreparedCase
from medseg.training.pairs import find_pairs, split_pairs
from medseg.training.preparation import PreparedCases, cache_bytes, prepare_cases
from medseg.training.recipe import AugmentationSection, Recipe, WindowSection, read_recipe
from medseg.training.run_files import RunFiles
from support.segmentation import label_table

EDGE = 12


def a_case(number: int, *, instances: bool = False) -> PreparedCase:
    generator = torch.Generator().manual_seed(number)
    label = torch.zeros(EDGE, EDGE, EDGE, dtype=torch.uint8)
    label[3:7, 4:9, 2:8] = 1 + number % 2
    return PreparedCase(
        case=f"case_{number}",
        image=torch.randn(2, EDGE, EDGE, EDGE, generator=generator),
        label=label,
        spacing=(1.0, 1.5, 2.0 + number),
        foreground=(torch.nonzero(label).to(torch.int32),),
        annotated=torch.tensor([True, True, number % 2 == 0]),
        instances=label.to(torch.int16) * 30 if instances else None,
    )


def same(first: PreparedCase, second: PreparedCase) -> bool:
    names = ("image", "label", "annotated", *(["instances"] if first.instances is not None else []))
    return (
        (first.case, first.spacing) == (second.case, second.spacing)
        and all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)
        and (first.instances is None) == (second.instances is None)
        and all(torch.equal(one, other) for one, other in zip(first.foreground, second.foreground, strict=True))
    )


def test_cases_beyond_the_bound_lie_on_the_disk_and_are_the_same(tmp_path: Path) -> None:
    cases = [a_case(number, instances=number != 3) for number in range(4)]
    cache = CaseCache(tmp_path / "cache", memory_bytes=2 * cases[0].bytes + 10)
    for case in cases:
        cache.add(case)
    assert (len(cache), cache.on_disk) == (4, 2)
    for case, kept in zip(cases, cache[:], strict=True):
        assert same(case, kept)
    assert cache[0] is cases[0]
    assert cache[2] is not cases[2]
    files = {path.name for path in (tmp_path / "cache" / "000002").iterdir()}
    assert files == {"image.npy", "label.npy", "instances.npy", "facts.pt"}
    cache.close()
    assert not (tmp_path / "cache").exists()


def test_what_takes_memory_is_counted(tmp_path: Path) -> None:
    case = a_case(0)
    assert case.bytes == 2 * EDGE**3 * 4 + EDGE**3 + 4 * 5 * 6 * 3 * 4
    cache = CaseCache(tmp_path / "cache", memory_bytes=case.bytes - 1)
    cache.add(case)
    assert cache.on_disk == 1


def test_writing_into_a_case_from_the_disk_changes_no_file(tmp_path: Path) -> None:
    cache = CaseCache(tmp_path / "cache", 0)
    cache.add(a_case(1))
    cache[0].image.zero_()
    assert same(cache[0], a_case(1))


def test_patches_are_the_same_from_memory_and_disk(tmp_path: Path) -> None:
    sampler = PatchSampler(WindowSection(size=(8, 6, 6)), AugmentationSection(affine_probability=1.0), 0.5)
    kept, stored = CaseCache(tmp_path / "none", 1 << 30), CaseCache(tmp_path / "cache", 0)
    for cache in (kept, stored):
        cache.add(a_case(2, instances=True))
    first, second = sampler.draw(kept[0], 11), sampler.draw(stored[0], 11)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_parts_of_a_cache_count_from_their_own_start(tmp_path: Path) -> None:
    cache = CaseCache(tmp_path / "cache", 1 << 30)
    for number in range(5):
        cache.add(a_case(number))
    validation = cache[3:]
    assert [case.case for case in validation] == ["case_3", "case_4"]
    assert validation[1].case == "case_4"
    assert len(cache[:0]) == 0


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    cache = CaseCache(tmp_path / "cache", 0)
    with pytest.raises(WriteError, match=r"could not be written|no permission"):
        cache.add(a_case(0))


@pytest.fixture
def prepared(a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path):
    def prepare(*, processes: int = 1, is_first: bool = True, cache_gb: float | None = None) -> PreparedCases:
        a_small_recipe["data"]["cache_gb"] = cache_gb
        recipe = read_recipe(write_recipe(a_small_recipe))
        pairs = find_pairs(a_training_folder, recipe.data)
        (tmp_path / "out").mkdir(exist_ok=True)
        return prepare_cases(
            *split_pairs(pairs, recipe.data, recipe.seed),
            recipe,
            label_table(1),
            output=tmp_path / "out",
            processes=processes,
            is_first=is_first,
            progress=NO_PROGRESS,
        )

    return prepare


def test_a_run_keeps_within_the_bound_of_its_recipe(prepared) -> None:
    everything = prepared(cache_gb=1.0)
    assert everything.cache.on_disk == 0
    one = everything.cache[0].bytes
    bounded = prepared(cache_gb=2.5 * one / 1e9)
    assert bounded.cache.on_disk == 4
    assert (len(bounded.training), len(bounded.validation)) == (4, 2)
    assert all(same(first, second) for first, second in zip(everything.cache[:], bounded.cache[:], strict=True))
    assert [fact.split for fact in bounded.facts] == ["training"] * 4 + ["validation"] * 2


def test_without_a_bound_half_of_the_free_memory_is_taken(
    a_small_recipe: dict, write_recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "available_memory", lambda: 8_000_000_000)
    recipe: Recipe = read_recipe(write_recipe(a_small_recipe))
    assert cache_bytes(recipe) == 4_000_000_000
    a_small_recipe["data"]["cache_gb"] = 0
    assert cache_bytes(read_recipe(write_recipe(a_small_recipe))) == 0


def test_several_processes_share_what_the_first_has_prepared(prepared, tmp_path: Path) -> None:
    first = prepared(processes=2)
    assert first.cache.on_disk == 6
    second = prepared(processes=2, is_first=False)
    assert second.facts == ()
    assert all(same(one, other) for one, other in zip(first.cache[:], second.cache[:], strict=True))
    (folder,) = (tmp_path / "out" / "cache").iterdir()
    before = (folder / "000000" / "image.npy").stat().st_mtime_ns
    again = prepared(processes=2)  # going on with the run: the files are as they were
    assert (folder / "000000" / "image.npy").stat().st_mtime_ns == before
    assert len(again.facts) == 6


def test_a_helping_process_waits_for_the_first_and_ends_with_it(
    prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_PATIENCE_SECONDS", 0.02)

    def fail() -> None:
        (tmp_path / "out").mkdir(exist_ok=True)
        failing = RunFiles(tmp_path / "out")
        failing.start()
        failing.fail("A case is bad.")

    timer = threading.Timer(0.2, fail)
    timer.start()
    with pytest.raises(Cancelled):
        prepared(processes=2, is_first=False)
    timer.join()


def test_a_folder_that_was_not_finished_is_not_shared(tmp_path: Path) -> None:
    cache = CaseCache(tmp_path / "cache", 0)
    cache.add(a_case(0))
    assert shared(tmp_path / "cache") is None
    cache.publish()
    assert len(shared(tmp_path / "cache")) == 1
