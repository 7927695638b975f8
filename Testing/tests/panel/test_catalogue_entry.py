"""The entry of the Extensions Index: its schema (1.0.1) and the checks that the index runs, rendered anew."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TEXT = {"type": "string", "minLength": 1}

SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema",
    "type": "object",
    "required": ["$schema", "category", "scm_url"],
    "additionalProperties": False,
    "properties": {
        "$schema": TEXT,
        "category": TEXT,
        "scm_url": TEXT,
        "scm_revision": TEXT,
        "scm_type": {"enum": ["git", "local"]},
        "build_dependencies": {"type": "array", "items": TEXT},
        "build_subdirectory": TEXT,
        "enabled": {"type": "boolean"},
        "tier": {"type": "integer", "minimum": 1, "maximum": 5},
    },
}


@pytest.fixture
def entry_file(repository: Path) -> Path:
    return repository / "MedSegExtension" / "MedSeg.json"


@pytest.fixture
def entry(entry_file: Path) -> dict[str, Any]:
    return json.loads(entry_file.read_text(encoding="utf-8"))


def test_the_entry_fits_the_schema_of_the_index(entry: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(entry, SCHEMA)
    assert re.search(r"slicer-extension-catalog-entry-schema-v1\.0\.\d\.json#$", entry["$schema"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**entry, "homepage": "https://example.org"}, SCHEMA)


def test_the_file_has_unix_line_ends_and_the_name_of_the_project(entry_file: Path, repository: Path) -> None:
    assert b"\r" not in entry_file.read_bytes()
    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    project = re.findall(r"project\s*\(\s*([^\s)]+)", text)
    assert project == [entry_file.stem]
    assert not entry_file.stem.lower().startswith("slicer")


def test_the_repository_is_named_as_the_index_wants(entry: dict[str, Any]) -> None:
    address = urlsplit(entry["scm_url"])
    assert address.scheme == "https"
    assert address.path.rsplit("/", 1)[1].startswith("Slicer")


def test_the_entry_and_the_cmake_file_name_the_same_dependencies_and_category(
    entry: dict[str, Any], repository: Path
) -> None:
    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")

    def field(name: str) -> str:
        return re.findall(rf'set\(EXTENSION_{name} "?([^")]*)"?\)', text)[0]

    assert field("DEPENDS").split() == entry["build_dependencies"]
    assert field("CATEGORY") == entry["category"]
    assert int(field("TIER")) == entry["tier"]
    assert entry["scm_url"].removesuffix(".git") == field("HOMEPAGE")


def test_the_repository_has_the_licence_that_the_index_looks_for(repository: Path) -> None:
    assert "Apache License" in (repository / "LICENSE").read_text(encoding="utf-8")


def test_requirements_leave_alone_what_slicer_and_the_pytorch_extension_bring(repository: Path) -> None:
    lines = (repository / "MedSegExtension/MedSeg/Resources/requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    names = {re.match(r"[A-Za-z0-9_.-]+", line).group().lower() for line in requirements}
    assert names == {"monai"}
    assert not any("==" in line for line in requirements)
