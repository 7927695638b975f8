"""All cases of a run, checked and brought onto the network's grid before the first step."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from medseg.device import available_memory
from medseg.errors import Cancelled
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.cache import CaseCache, shared
from medseg.training.checks import CaseChecker
from medseg.training.data import prepare
from medseg.training.export import preprocessing_of
from medseg.training.run_files import read_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.training.cache import CaseView
    from medseg.training.checks import CaseFacts
    from medseg.training.pairs import Pair
    from medseg.training.recipe import Recipe

CACHE = "cache"
"""The folder, in the output folder, of cases that wait on the disk; removed when the run ends."""

_SHARE_OF_MEMORY = 0.5
"""Of the free memory, what prepared cases take when the recipe does not say (our choice)."""
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class PreparedCases:
    """The cases of a run; ``facts`` are empty in a process that only helps the first."""

    cache: CaseCache
    training: CaseView
    validation: CaseView
    facts: tuple[CaseFacts, ...]

    @property
    def spacings(self) -> list[tuple[float, float, float]]:
        """Voxel sizes of the training cases on the network's grid, mm."""
        return [case.spacing for case in self.training]


def check_cases(
    training: Sequence[Pair],
    validation: Sequence[Pair],
    recipe: Recipe,
    labels: LabelTable,
    progress: Progress = NO_PROGRESS,
) -> tuple[CaseFacts, ...]:
    """Look at every case and return what they are like.

    Raises
    ------
    RecipeError
        Naming every case that cannot be trained on.
    """
    return _go_through(training, validation, recipe, labels, progress=progress, cache=None)


def prepare_cases(
    training: Sequence[Pair],
    validation: Sequence[Pair],
    recipe: Recipe,
    labels: LabelTable,
    *,
    output: Path,
    processes: int,
    is_first: bool,
    progress: Progress,
) -> PreparedCases:
    """Check all cases and prepare them, within the bound of memory that the recipe gives.

    With several processes all prepared cases lie on the disk, where the first process puts them and the others find
    them: the system's cache of files holds them in memory once for all processes of a machine.

    Raises
    ------
    RecipeError
        Naming every case that cannot be trained on.
    Cancelled
        In a helping process, when the first one ends without having prepared the cases.
    """
    folder = output / CACHE
    facts: tuple[CaseFacts, ...] = ()
    if processes == 1:
        shutil.rmtree(folder, ignore_errors=True)
        cache = CaseCache(folder, cache_bytes(recipe))
        facts = _go_through(training, validation, recipe, labels, progress=progress, cache=cache)
    else:
        own = folder / _fingerprint([*training, *validation], recipe, labels)
        if is_first:
            found = shared(own)
            if found is None:
                shutil.rmtree(folder, ignore_errors=True)
                cache = CaseCache(own, 0)
                facts = _go_through(training, validation, recipe, labels, progress=progress, cache=cache)
                cache.publish()
            else:
                cache = found
                facts = check_cases(training, validation, recipe, labels, progress)
        else:
            cache = _awaited(own, output)
    count = len(training)
    return PreparedCases(cache, cache[:count], cache[count:], facts)


def cache_bytes(recipe: Recipe) -> int:
    """Return the memory that prepared cases may take."""
    if recipe.data.cache_gb is not None:
        return int(recipe.data.cache_gb * 1e9)
    return int(_SHARE_OF_MEMORY * available_memory())


def _go_through(
    training: Sequence[Pair],
    validation: Sequence[Pair],
    recipe: Recipe,
    labels: LabelTable,
    *,
    progress: Progress,
    cache: CaseCache | None,
) -> tuple[CaseFacts, ...]:
    preprocessing = preprocessing_of(recipe)
    checker = CaseChecker(recipe, labels)
    total = len(training) + len(validation)
    for number, pair in enumerate([*training, *validation]):
        progress.update(number / total, f"Checking case {number + 1} of {total}: {pair.case}")
        case = checker.check(pair, "training" if number < len(training) else "validation")
        # After a bad case the others are only looked at, so that one sentence can name them all.
        if cache is None or case is None or checker.problems:
            continue
        image, *more = case.images
        cache.add(
            prepare(
                pair,
                image,
                case.label,
                labels=labels,
                section=recipe.data,
                preprocessing=preprocessing,
                seed=recipe.seed,
                more=more,
            )
        )
    checker.refuse(total)
    return tuple(checker.facts)


def _fingerprint(pairs: Sequence[Pair], recipe: Recipe, labels: LabelTable) -> str:
    """Return what tells these prepared cases from others: the recipe's part and the files as they are."""
    files = [path for pair in pairs for path in (*pair.images, pair.label)]
    facts = [
        recipe.data.model_dump_json(exclude={"cache_gb"}),
        recipe.preprocessing.model_dump_json(),
        recipe.seed,
        labels.values,
        [[pair.case, pair.annotated] for pair in pairs],
        [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files if path.is_file()],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _awaited(folder: Path, output: Path) -> CaseCache:
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    while True:
        cache = shared(folder)
        if cache is not None:
            return cache
        state = read_state(output)
        if state is not None and state.state != "running" and state.updated >= started:
            raise Cancelled
        time.sleep(_PATIENCE_SECONDS)
