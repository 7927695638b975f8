"""The process of a training run: started by :mod:`medseg.backend.training_process`, ends with its owner.

What the command ``medseg train`` does without the packages of the command line, which 3D Slicer's Python lacks. A
failure is told in one sentence, the last line of the output.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.backend.processes import kill_own_family, watch_owner
from medseg.backend.training_process import CONSOLE, NOTE
from medseg.errors import Cancelled, MedSegError

if TYPE_CHECKING:
    from collections.abc import Sequence

GRACE_SECONDS = 30.0
"""How long a run may take to end by itself when its owner is gone; a step of a large network takes seconds."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, or write a recipe that fits the data."""
    parser = argparse.ArgumentParser(prog="medseg training", description="The training process of MedSeg.")
    parser.add_argument("--owner", type=int, default=None, help="end when the process with this number ends")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train as a recipe says")
    train.add_argument("recipe", type=Path)
    train.add_argument("data", type=Path)
    train.add_argument("output", type=Path)
    train.add_argument("--device", default="auto")
    new = commands.add_parser("new", help="write a recipe that fits the data")
    new.add_argument("recipe", type=Path)
    new.add_argument("data", type=Path)
    new.add_argument("--from", dest="start_from", default="", help="a model that the recipe goes on from")
    options = parser.parse_args(arguments)
    # Lightning starts the processes of further GPUs with the words of this command line; launch.py took one out.
    sys.argv.insert(1, __name__)
    try:
        if options.command == "new":
            watch_owner(options.owner, None, kill_own_family)
            _write_recipe(options.recipe, options.data, options.start_from)
        else:
            watch_owner(options.owner, None, lambda: _end_with_the_owner(options.output))
            _train(options.recipe, options.data, options.output, options.device)
    except Cancelled:
        sys.exit(130)
    except MedSegError as error:
        _say(str(error))
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - whatever it is, whoever started the run gets a sentence
        traceback.print_exc()
        _say(f"This is a defect of MedSeg ({type(error).__name__}); {CONSOLE} in the output folder has the details.")
        sys.exit(1)


def _say(sentence: str) -> None:
    sys.stderr.write(f"\n{' '.join(sentence.split())}\n")


def _train(recipe: Path, data: Path, output: Path, device: str) -> None:
    from medseg.training import run_training

    run_training(recipe, data, output, device=device)


def _write_recipe(recipe: Path, data: Path, start_from: str) -> None:
    from medseg.training import start_recipe

    for note in start_recipe(recipe, data, start_from=start_from):
        sys.stdout.write(f"{NOTE}{' '.join(note.split())}\n")


def _end_with_the_owner(output: Path) -> None:
    from medseg.training.run_files import request_stop

    def insist() -> None:
        time.sleep(GRACE_SECONDS)
        kill_own_family()

    threading.Thread(target=insist, name="medseg-insist", daemon=True).start()
    with contextlib.suppress(OSError):
        request_stop(output)


if __name__ == "__main__":
    main()
