"""A training process without a training: takes the arguments of the real one and writes the files of a run.

Run by ``TrainingProcess.start(..., script=...)``. The recipe is a JSON object that says what happens: ``epochs``,
``seconds`` of each, ``fails`` or ``dies`` in an epoch, ``slow_start``, ``breaks`` before the first state.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from medseg.backend.processes import watch_owner
from medseg.training.run_files import RunFiles, read_progress

THIS = Path(__file__).resolve()
LABELS = {"1": "bright blob", "2": "dark blob"}
COLORS = {"1": "#c86432", "2": "#3264c8"}


def main() -> None:
    """Write what the recipe says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--owner", type=int)
    commands = parser.add_subparsers(dest="command")
    train = commands.add_parser("train")
    for name in ("recipe", "data", "output"):
        train.add_argument(name, type=Path)
    train.add_argument("--device")
    new = commands.add_parser("new")
    for name in ("recipe", "data"):
        new.add_argument(name, type=Path)
    new.add_argument("--from", dest="start_from", default="")
    options = parser.parse_args()
    watch_owner(options.owner, None, lambda: os.kill(os.getpid(), signal.SIGKILL))
    if options.command == "new":
        write_recipe(options.recipe, options.data, options.start_from)
        return
    recipe = json.loads(options.recipe.read_text(encoding="utf-8"))
    if recipe.get("breaks"):
        sys.stderr.write(f"Traceback\n\n{recipe['breaks']}\n")
        sys.exit(1)
    time.sleep(recipe.get("slow_start", 0.0))
    run(recipe, options.output)


def write_recipe(recipe: Path, data: Path, start_from: str) -> None:
    """Write a recipe with a note, unless there is no data."""
    if not data.exists():
        sys.stderr.write(f"There is no folder {data}. Choose another.\n")
        sys.exit(1)
    recipe.write_text(json.dumps({"epochs": 2, "start_from": start_from}), encoding="utf-8")
    sys.stdout.write("warming up\nNOTE The labels have no names yet.\n")


def run(recipe: dict, output: Path) -> None:
    """Go through the epochs that are left."""
    done = [entry["epoch"] for entry in read_progress(output) if entry["kind"] == "epoch"]
    first = max(done, default=0)
    epochs = recipe["epochs"]
    files = RunFiles(output)
    files.start()
    files.forget_epochs(first)
    files.append("start", epochs=epochs, labels=LABELS, colors=COLORS, resumed_from_epoch=first)
    files.update(stage="training", epochs=epochs, epoch=first, resumed_from_epoch=first, recipe="fake")
    for epoch in range(first + 1, epochs + 1):
        end = time.monotonic() + recipe.get("seconds", 0.01)
        while time.monotonic() < end:
            if (output / "stop").exists():
                files.end("cancelled", "Cancelled.")
                sys.exit(130)
            time.sleep(0.02)
        if recipe.get("fails") == epoch:
            files.end("failed", "The loss is not a number.", "Lower the learning rate.")
            sys.exit(1)
        if recipe.get("dies") == epoch and first == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        validated = epoch % 2 == 0 or epoch == epochs
        quality = 1.0 - 0.7 * 0.9**epoch
        files.append(
            "epoch",
            epoch=epoch,
            loss=0.9**epoch + 0.05 * (epoch % 3),
            validation_loss=0.9**epoch + 0.1 if validated else None,
            validation_dice=quality - 0.05 if validated else None,
            dice_per_label={"1": quality, "2": quality - 0.1} if validated else None,
            total_seconds=0.1 * epoch,
        )
        files.update(
            epoch=epoch,
            fraction=epoch / epochs,
            eta_seconds=0.1 * (epochs - epoch),
            message=f"Epoch {epoch} of {epochs}, loss {0.9**epoch:.3f}",
        )
        files.flush()
    if recipe.get("package"):
        files.update(package=recipe["package"])
    (output / "report.html").write_text("<p>Report</p>", encoding="utf-8")
    files.update(report="report.html")
    files.end("finished", "Done.")


if __name__ == "__main__":
    main()
