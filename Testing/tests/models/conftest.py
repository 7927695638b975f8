"""Packages to damage, and small ways to do it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Edit = Callable[[dict[str, Any]], None]


class PackageFolder:
    """A model package of its own that a test may damage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def weights(self) -> Path:
        return self.folder / "models" / "model.pt"

    def edit(self, file: str, change: Edit) -> Path:
        path = self.folder / "configs" / file
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))
        return self.folder

    def edit_metadata(self, change: Edit) -> Path:
        return self.edit("metadata.json", change)

    def edit_inference(self, change: Edit) -> Path:
        return self.edit("inference.json", change)

    def put_weights(self, content: bytes, name: str = "models/model.pt") -> Path:
        """Write other weights and describe them truthfully, as an attacker would."""
        path = self.folder / name
        path.write_bytes(content)

        def describe(data: dict[str, Any]) -> None:
            data["medseg"]["weights"] = {
                "file": name,
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
            }

        return self.edit_metadata(describe)


@pytest.fixture
def a_package(bright_blob_package: Path, tmp_path: Path) -> PackageFolder:
    folder = tmp_path / "bright-blob"
    shutil.copytree(bright_blob_package, folder)
    return PackageFolder(folder)
