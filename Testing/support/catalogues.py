"""A catalogue of one model that a real server offers, as a hospital may have one of its own."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.web_server import WebServer

if TYPE_CHECKING:
    from pathlib import Path


def zipped(folder: Path, prefix: str = "") -> bytes:
    """Return a zip file of a folder."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    return content.getvalue()


@dataclass
class OfferedModel:
    """A model on a server, and the catalogue file that names it."""

    server: WebServer
    catalogue: Path
    name: str = "offered-blob"

    def describe(self, **changes: Any) -> None:
        """Write the catalogue, with fields of the model changed."""
        model = {
            "name": self.name,
            "title": "Blobs from the server",
            "description": "Bright spheres in noise.",
            "format": "medseg",
            "modalities": ["MR"],
            "anatomy": ["sphere"],
            "structures": ["bright blob"],
            "license": "Apache-2.0",
            "addresses": [self.server.address],
            "bytes": len(self.server.content),
            "checksum": {
                "kind": "sha256",
                "value": hashlib.sha256(self.server.content).hexdigest(),
                "source": "https://example.org/models",
            },
        }
        self.catalogue.write_text(json.dumps({"format": 1, "models": [model | changes]}), encoding="utf-8")


def offer(folder: Path, catalogue: Path) -> OfferedModel:
    """Put the model package in ``folder`` on a server, and write the catalogue."""
    offered = OfferedModel(WebServer(zipped(folder, "bright-blob/")), catalogue)
    offered.describe()
    return offered
