"""The catalogue that comes with MedSeg, its schema, and catalogues that are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.models.catalogue import FORMATS, load_catalogue, read_catalogue
from medseg.models.licensing import restricts
from support.web_server import forbid_connections


@pytest.fixture
def shipped(repository: Path) -> dict[str, Any]:
    return json.loads((repository / "Resources" / "catalogue.json").read_text(encoding="utf-8"))


@pytest.fixture
def schema(repository: Path) -> dict[str, Any]:
    return json.loads((repository / "Resources" / "catalogue.schema.json").read_text(encoding="utf-8"))


def test_the_shipped_catalogue_fits_its_schema(shipped: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(shipped, schema)
    assert set(schema["definitions"]["model"]["properties"]["format"]["enum"]) == set(FORMATS)


def test_reading_and_schema_agree_on_what_a_model_has(
    shipped: dict[str, Any], schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = forbid_connections(monkeypatch.setattr)
    entries = {entry.name: json.loads(json.dumps(entry.summary())) for entry in load_catalogue().entries}
    assert attempts == []
    assert sorted(entries) == sorted(model["name"] for model in shipped["models"])
    for model in shipped["models"]:
        assert {key: entries[model["name"]][key] for key in model} == model
    assert set(schema["definitions"]["model"]["properties"]) <= set(next(iter(entries.values())))


def test_every_checksum_says_where_it_was_published_and_the_others_say_that_there_is_none() -> None:
    entries = load_catalogue().entries
    assert {entry.remote.checksum is None for entry in entries} == {True, False}
    for entry in entries:
        assert bool(entry.checksum_source) == (entry.remote.checksum is not None)
        expected = "No checksum is published" if entry.remote.checksum is None else entry.remote.checksum.title
        assert expected in entry.checksum_text


def test_public_addresses_are_encrypted_and_files_have_names_of_their_own() -> None:
    entries = load_catalogue().entries
    assert all(address.startswith("https://") for entry in entries for address in entry.remote.addresses)
    names = [entry.remote.name for entry in entries]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.-]+\.zip", name) for name in names)


def test_every_typed_word_must_match() -> None:
    catalogue = load_catalogue()
    assert [entry.name for entry in catalogue.search("mandible CT")] == ["dental-segmentator"]
    assert catalogue.search("mandible ultrasound") == []
    assert catalogue.find("dental-segmentator") is catalogue.search("mandible ct")[0]
    assert catalogue.find("nobody") is None


@pytest.mark.parametrize(
    ("name", "asks"),
    [
        ("Apache-2.0", False),
        ("CC BY 4.0", False),
        ("MIT", False),
        ("(MIT AND Apache-2.0)", False),
        ("CC-BY-NC-4.0", True),
        ("MIT and CC-BY-NC-4.0", True),
        ("Private Use, Non-Commercial", True),
        ("Somebody's own licence", True),
        ("NOASSERTION", False),
        ("not stated; ask its author", False),
        ("", False),
    ],
)
def test_licences_that_are_not_well_known_as_free_need_consent(name: str, asks: bool) -> None:
    assert restricts(name) is asks


@pytest.fixture
def a_catalogue(shipped: dict[str, Any], tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """The first model of the shipped catalogue, and the file to write it to."""
    return {"format": 1, "models": [dict(shipped["models"][0])]}, tmp_path / "mine.json"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("format", "keras", "format"),
        ("addresses", [], "addresses"),
        ("addresses", ["file:///etc/passwd"], "no address"),
        ("addresses", ["http://example.org/a.zip"], "not encrypted"),
        ("checksum", {"kind": "crc32", "value": "0", "source": "https://example.org"}, "crc32"),
        ("checksum", {"kind": "md5", "value": "0" * 31, "source": "https://example.org"}, "MD5"),
        ("bytes", -1, "bytes"),
        ("title", "", "title"),
        ("license", None, "license"),
    ],
)
def test_a_wrong_field_is_named(
    a_catalogue: tuple[dict[str, Any], Path], schema: dict[str, Any], field: str, value: object, said: str
) -> None:
    data, path = a_catalogue
    data["models"][0][field] = value
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_catalogue(path)


def test_catalogues_that_are_none_end_in_a_sentence(a_catalogue: tuple[dict[str, Any], Path]) -> None:
    data, path = a_catalogue
    with pytest.raises(InputError, match=r"mine\.json"):
        read_catalogue(path)
    path.write_text("[", encoding="utf-8")
    with pytest.raises(InputError, match="JSON"):
        read_catalogue(path)
    path.write_text(json.dumps(data | {"format": 2}), encoding="utf-8")
    with pytest.raises(InputError, match="later MedSeg"):
        read_catalogue(path)
    path.write_text(json.dumps(data | {"models": data["models"] * 2}), encoding="utf-8")
    with pytest.raises(InputError, match="twice"):
        read_catalogue(path)


def test_a_catalogue_of_ones_own_comes_before_the_shipped_one(
    a_catalogue: tuple[dict[str, Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, path = a_catalogue
    data["models"][0]["title"] = "From our own server"
    path.write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.setenv("MEDSEG_CATALOGUE", str(path))
    found = load_catalogue()
    assert found.find(data["models"][0]["name"]).title == "From our own server"
    assert len(found.entries) > 1
