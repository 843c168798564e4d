"""Names, types and defaults of docling-serve 1.38.2, from `contract_settings.json`."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from docling_serve.settings import GROUPS, DoclingServeSettings, UvicornSettings, env_names

CONTRACT: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "contract_settings.json").read_text()
)
CLASSES: list[type[BaseSettings]] = [DoclingServeSettings, UvicornSettings]

# Per type: text of a good value, what it becomes, and text that is refused (None: nothing is).
SAMPLES: dict[str, tuple[str, object, str | None]] = {
    "bool": ("yes", True, "perhaps"),
    "int": ("7", 7, "0.1"),
    "float": ("7.5", 7.5, "fast"),
    "str": ("a b", "a b", None),
    "path": ("/x/y", Path("/x/y"), None),
    "list[str]": ('["a", "b"]', ["a", "b"], '{"a": 1}'),
    "dict": ('{"a": 1}', {"a": 1}, "{"),
    "dict[str, any]": ('{"a": {}}', {"a": {}}, "{"),
    "enum(WARNING, INFO, DEBUG)": ("debug", "DEBUG", "ERROR"),
    "enum(text, json)": ("json", "json", "JSON"),
    "enum(s3, azure)": ("s3", "s3", "S3"),
    "enum(local, rq, ray)": ("local", "local", "RQ"),
}
ALLOW_LIST = "list[str] | null"


def contract_of(cls: type[BaseSettings]) -> list[dict[str, Any]]:
    return CONTRACT[cls.__name__]


def sample(row: dict[str, Any]) -> tuple[str, object, str | None]:
    if row["type"] == ALLOW_LIST:
        return "a, b,", ["a", "b"], "{}"
    return SAMPLES[row["type"].removesuffix(" | null")]


def values_of(settings: BaseSettings, names: list[str]) -> dict[str, object]:
    return {name: getattr(settings, name) for name in names}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_has_the_default_of_the_contract(cls: type[BaseSettings]) -> None:
    expected = {row["name"]: row["default"] for row in contract_of(cls)}
    assert values_of(cls(), list(expected)) == expected


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_has_the_variables_of_the_contract(cls: type[BaseSettings]) -> None:
    expected = {row["name"]: tuple(row["env"]) for row in contract_of(cls)}
    assert {name: env_names(name, cls) for name in expected} == expected


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("change_case", [str.upper, str.lower])
def test_every_field_reads_its_variable_in_any_case(
    cls: type[BaseSettings], change_case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The config file is left out: it would have to exist.
    rows = [row for row in contract_of(cls) if row["name"] != "config_file"]
    for row in rows:
        monkeypatch.setenv(change_case(row["env"][0]), sample(row)[0])
    expected = {row["name"]: sample(row)[1] for row in rows}
    assert values_of(cls(), list(expected)) == expected


@pytest.mark.parametrize("cls", CLASSES)
def test_bad_values_are_refused_for_every_type_that_has_some(
    cls: type[BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {row["name"]: (row["env"][0], sample(row)[2]) for row in contract_of(cls)}
    bad = {name: pair for name, pair in bad.items() if pair[1] is not None}
    for variable, text in bad.values():
        monkeypatch.setenv(variable, str(text))
    with pytest.raises(ValidationError) as caught:
        cls()
    assert {error["loc"][0] for error in caught.value.errors()} == set(bad)


@pytest.mark.parametrize("cls", CLASSES)
def test_null_is_accepted_where_the_contract_has_it(cls: type[BaseSettings]) -> None:
    names = [row["name"] for row in contract_of(cls)]
    with pytest.raises(ValidationError) as caught:
        cls(**dict.fromkeys(names))
    refused = {error["loc"][0] for error in caught.value.errors()}
    # A JSON array or mapping of the environment may be empty, but is never null either.
    assert refused == {row["name"] for row in contract_of(cls) if "null" not in row["type"]}


def test_every_field_is_in_one_group_and_described() -> None:
    grouped = Counter((group.owner, name) for group in GROUPS for name in group.model.model_fields)
    fields = {(cls, name) for cls in CLASSES for name in cls.model_fields}
    assert set(grouped) == fields
    assert set(grouped.values()) == {1}
    assert all(field.description for cls in CLASSES for field in cls.model_fields.values())
