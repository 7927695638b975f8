"""``medseg models``: adding, removing, checking and exporting from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medseg.models import ModelLibrary
from support.catalogues import OfferedModel, offer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def an_offered_model(
    bright_blob_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OfferedModel]:
    """A model on a server, named by the catalogue of the house."""
    monkeypatch.setenv("MEDSEG_CATALOGUE", str(tmp_path / "catalogue.json"))
    offered = offer(bright_blob_package, tmp_path / "catalogue.json")
    yield offered
    offered.server.close()


def test_the_catalogue_says_what_is_published_and_what_can_be_run(medseg, an_offered_model: OfferedModel) -> None:
    result = medseg("models", "catalogue", "blob")
    assert result.exit_code == 0
    assert an_offered_model.name in result.stdout
    assert "SHA-256" in result.stdout
    (entry,) = json.loads(medseg("models", "catalogue", "mandible", "--json").stdout)
    assert entry["checksum"]["kind"] == "md5"
    assert an_offered_model.server.seen == []
    assert "no such model" in medseg("models", "catalogue", "mandible", "ultrasound").stderr


def test_a_model_goes_in_by_name_is_checked_exported_and_removed(
    medseg, an_offered_model: OfferedModel, tmp_path: Path
) -> None:
    added = medseg("models", "add", an_offered_model.name)
    assert added.exit_code == 0, added.output
    assert added.stdout == "Installed: bright-blob\n"
    assert "Apache-2.0" in added.stderr

    checked = medseg("models", "verify", "bright-blob")
    assert checked.exit_code == 0
    assert "bright-blob: sound" in checked.stdout

    exported = medseg("models", "export", "bright-blob", tmp_path / "blob.zip")
    assert exported.exit_code == 0
    assert medseg("models", "add", tmp_path / "blob.zip").exit_code == 1
    assert medseg("models", "add", "--replace", tmp_path / "blob.zip").exit_code == 0

    assert medseg("models", "remove", "bright-blob").stdout == "Removed: bright-blob\n"
    assert medseg("models", "remove", "bright-blob").exit_code == 1
    assert "bright-blob" not in medseg("models").stdout


def test_a_damaged_model_makes_verify_fail(medseg, an_installed_model: str) -> None:
    weights = ModelLibrary().find(an_installed_model).weights.path
    weights.write_bytes(weights.read_bytes()[::-1])
    checked = medseg("models", "verify")
    assert checked.exit_code == 1
    assert f"{an_installed_model}: models/model.pt is damaged" in checked.stdout


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_a_restricted_licence_is_shown_and_asked_about(
    medseg, an_offered_model: OfferedModel, answer: str, code: int
) -> None:
    from typer.testing import CliRunner

    from medseg.cli import app

    an_offered_model.describe(license="CC-BY-NC-4.0")
    result = CliRunner().invoke(app, ["models", "add", an_offered_model.name], input=answer)
    assert result.exit_code == code, result.output
    assert "CC-BY-NC-4.0" in result.stderr
    assert ("--accept-license" in result.stderr) == (code == 1)
    assert (an_offered_model.server.seen == []) == (code == 1)


def test_a_licence_can_be_accepted_on_the_command_line(medseg, an_offered_model: OfferedModel) -> None:
    an_offered_model.describe(license="CC-BY-NC-4.0")
    assert medseg("models", "add", an_offered_model.name, "--accept-license").exit_code == 0


def test_an_address_is_checked_against_the_sha256_that_was_given(medseg, an_offered_model: OfferedModel) -> None:
    an_offered_model.describe(addresses=["https://example.org/other.zip"])
    refused = medseg("models", "add", an_offered_model.server.address, "--sha256", "0" * 64)
    assert refused.exit_code == 1
    assert "SHA-256 is another" in refused.stderr
    assert medseg("models", "add", an_offered_model.server.address, "--sha256", "short").exit_code == 1
    assert medseg("models", "add", an_offered_model.server.address).exit_code == 0
