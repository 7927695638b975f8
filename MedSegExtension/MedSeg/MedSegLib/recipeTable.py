"""The table of pairs that a recipe names (``data.csv``), as the recipe's own reader finds it.

The reader needs packages that Slicer's process must not load, so this file is also a program that reads the recipe in
a process of its own. It imports nothing of Slicer.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.backend.interpreter import PythonInterpreter

TABLE = "TABLE "
"""How the line begins on which the program writes what the recipe names; nothing follows when it names no table."""


def tableOfRecipe(recipe: Path, interpreter: PythonInterpreter, environment: Mapping[str, str] | None) -> Path:
    """Return the table that a recipe names. Waits for the other process; not for the main thread.

    Raises
    ------
    RecipeError
        When the recipe cannot be used, or names no table.
    WorkerError
        When the Python cannot be started.
    """
    from medseg.backend import launch
    from medseg.backend.training_process import last_sentence, start_runner
    from medseg.errors import RecipeError

    with tempfile.TemporaryDirectory(prefix="medseg-recipe-") as folder:
        path = Path(folder) / "console.log"
        arguments = [str(launch.__file__), str(recipe)]
        with path.open("wb") as console:
            process = start_runner(arguments, console, interpreter, environment, Path(__file__))
            process.wait()
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        sentence = last_sentence(path)
    found = [line.removeprefix(TABLE).strip() for line in lines if line.startswith(TABLE)]
    if process.returncode != 0 or not found:
        raise RecipeError(sentence or f"The recipe {recipe} could not be read.")
    if not found[-1]:
        raise RecipeError(
            "The recipe names no data (data.csv).", advice="Choose a folder with images and label maps, or a CSV table."
        )
    return recipe.parent / found[-1]


def main() -> None:
    """Write what a recipe names, or in one sentence why it cannot be read."""
    here = Path(__file__).resolve().parent
    # Python put the folder of this file first; its files must not hide packages of the same names.
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    launchFile, recipe = sys.argv[-2:]
    spec = importlib.util.spec_from_file_location("launch", launchFile)
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    launch.load_this_medseg()
    from medseg.errors import MedSegError

    try:
        from medseg.training.recipe import read_recipe

        table = read_recipe(Path(recipe)).data.csv
    except ImportError as error:
        _end(f"The Python environment lacks {error.name}, which training needs. Install medseg[train] in it.")
    except MedSegError as error:
        _end(str(error))
    else:
        sys.stdout.write(f"{TABLE}{table or ''}\n")


def _end(sentence: str) -> None:
    sys.stderr.write(f"\n{' '.join(sentence.split())}\n")
    sys.exit(1)


if __name__ == "__main__":
    main()
