from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from docling_serve.api.forms import MultipartForm, form_model
from tests.unit.api.form_app import FORMS, errors, post, post_form

DATA = Path(__file__).parent / "data"
SCHEMAS: dict[str, Any] = json.loads((DATA / "form_schemas.json").read_text())["routes"]
REFUSED: list[dict[str, Any]] = json.loads((DATA / "refused_requests.json").read_text())[
    "exchanges"
]
CONVERT = "/v1/convert/file"
HYBRID = "/v1/chunk/hybrid/file"

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")


def reduced(schema: Any) -> Any:
    """A schema without texts, and with references by name, as the recorded facts have it."""
    if isinstance(schema, list):
        return [reduced(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = ("title", "description", "examples", "deprecated")
    return {
        key: value.rsplit("/", 1)[1] if key == "$ref" else reduced(value)
        for key, value in schema.items()
        if key not in dropped
    }


async def sent(fields: dict[str, Any]) -> dict[str, Any]:
    """What the convert endpoint took as sent."""
    response = await post_form(CONVERT, fields)
    assert response.status_code == 200, response.text
    understood: dict[str, Any] = response.json()["sent"]
    return understood


@pytest.mark.parametrize("route", SCHEMAS)
def test_form_schema_is_that_of_docling_serve(route: str) -> None:
    schema = FORMS[route].schema("Body")

    properties = {name: reduced(value) for name, value in schema["properties"].items()}
    assert properties == SCHEMAS[route]["properties"]
    assert schema["required"] == SCHEMAS[route]["required"]


@pytest.mark.parametrize("exchange", REFUSED, ids=lambda exchange: str(exchange["detail"])[:70])
async def test_recorded_refusals(exchange: dict[str, Any]) -> None:
    if "json" in exchange:
        response = await post(
            exchange["path"], json=exchange["json"], headers=exchange.get("headers", {})
        )
    elif exchange["files"]:
        response = await post_form(exchange["path"], exchange["fields"], *exchange["files"])
    else:
        # A multipart body without any file, which a dict of data alone would not make.
        fields = {name: (None, value) for name, value in exchange["fields"].items()}
        response = await post(exchange["path"], files=fields)

    assert errors(response) == exchange["detail"]


async def test_nothing_sent_leaves_nothing_set() -> None:
    assert await sent({}) == {}


async def test_lists_are_repeated_fields() -> None:
    fields = {"to_formats": ["md", "text"], "ocr_lang": ["en", "de"], "page_range": ["2", "3"]}
    assert await sent(fields) == {
        "to_formats": ["md", "text"],
        "ocr_lang": ["en", "de"],
        "page_range": [2, 3],
    }


@pytest.mark.parametrize(
    "text",
    ["md,text", " md , text,", '["md", "text"]', "['md', 'text']", "('md', 'text')", ["md,text"]],
    ids=str,
)
async def test_a_list_may_be_in_one_field(text: Any) -> None:
    assert await sent({"to_formats": text}) == {"to_formats": ["md", "text"]}


@pytest.mark.parametrize("text", ["[1,3]", "(1, 3)", "1,3", '["1", "3"]', ["1", "3"]], ids=str)
async def test_a_range_may_be_in_one_field(text: Any) -> None:
    assert await sent({"page_range": text}) == {"page_range": [1, 3]}


async def test_spellings_of_a_list_may_be_mixed() -> None:
    fields = {"to_formats": ["md,html", '["text"]', "json"]}
    assert await sent(fields) == {"to_formats": ["md", "html", "text", "json"]}


@pytest.mark.parametrize("text", ["[]", ",", "[ ]"])
async def test_an_empty_list_is_not_sent(text: str) -> None:
    assert await sent({"to_formats": text}) == {}


@pytest.mark.parametrize(
    ("field", "text", "kind", "loc"),
    [
        ("to_formats", "md,docm", "enum", ["to_formats", 1]),
        ("to_formats", '["md"', "enum", ["to_formats", 0]),
        ("to_formats", '[{"a": 1}]', "enum", ["to_formats", 0]),
        ("ocr_lang", "[1]", "string_type", ["ocr_lang", 0]),
        ("page_range", "1,2,3", "too_long", ["page_range"]),
        ("page_range", "3,1", "value_error", ["page_range"]),
    ],
)
async def test_what_is_wrong_in_a_list_is_named(
    field: str, text: str, kind: str, loc: list[Any]
) -> None:
    (error, *_) = errors(await post_form(CONVERT, {field: text}))
    assert (error["type"], error["loc"]) == (kind, ["body", *loc])


@pytest.mark.parametrize(
    "text",
    ['{"kind": "plain", "x": true, "y": null}', "{'kind': 'plain', 'x': True, 'y': None}"],
)
async def test_an_object_may_be_spelled_as_python_does(text: str) -> None:
    understood = await sent({"layout_custom_config": text})
    assert understood == {"layout_custom_config": {"kind": "plain", "x": True, "y": None}}


@pytest.mark.parametrize(
    "text",
    ["__import__('os').getcwd()", "{'a': open('/etc/passwd')}", "-" * 20_000 + "1", "{" * 9000],
    ids=["call", "call inside", "deep", "nested"],
)
async def test_only_literals_of_python_are_read(text: str) -> None:
    (error,) = errors(await post_form(CONVERT, {"layout_custom_config": text}))
    assert (error["type"], error["loc"]) == ("json_invalid", ["body", "layout_custom_config"])


async def test_options_may_come_as_one_object() -> None:
    options = {"do_ocr": False, "to_formats": ["md", "json"], "page_range": [1, 2]}
    assert await sent({"options": json.dumps(options)}) == options
    assert await sent({"options": str(options), "to_formats": "html"}) == {
        **options,
        "to_formats": ["html"],
    }
    assert await sent({"options": ""}) == await sent({"options": "null"}) == {}


@pytest.mark.parametrize(
    ("fields", "kind", "loc"),
    [
        ({"options": "do_ocr"}, "json_invalid", ["options"]),
        ({"options": '["do_ocr"]'}, "dict_type", ["options"]),
        ({"options": '{"to_formats": "md"}'}, "list_type", ["options", "to_formats"]),
        ({"options": '{"do_ocr": true}', "page_range": "2,1"}, "value_error", ["page_range"]),
    ],
    ids=str,
)
async def test_errors_in_an_object_of_options_are_located_in_it(
    fields: dict[str, Any], kind: str, loc: list[Any]
) -> None:
    (error,) = errors(await post_form(CONVERT, fields))
    assert (error["type"], error["loc"]) == (kind, ["body", *loc])


async def test_chunk_forms_take_objects_of_options_too() -> None:
    fields = {
        "convert_options": '{"do_ocr": false}',
        "chunking_options": '{"chunker": "hybrid", "max_tokens": 9}',
        "chunking_merge_peers": "False",
    }
    understood = (await post_form(HYBRID, fields)).json()
    assert understood["options"]["do_ocr"] is False
    assert understood["chunking"]["max_tokens"] == 9
    assert understood["chunking"]["merge_peers"] is False
    (error,) = errors(await post_form(HYBRID, {"chunking_options": '{"max_tokens": "x"}'}))
    assert error["loc"] == ["body", "chunking_options", "max_tokens"]


@pytest.mark.parametrize(
    "fields",
    [
        {"layout_custom_config": ""},
        {"layout_custom_config": " null "},
        {"chunking_options": "null"},
        {"document_timeout": "null"},
        {"vlm_pipeline_preset": "None"},
        {"do_ocr": ""},
        {"ocr_lang": ""},
        {"images_scale": "2.0"},
        {"to_formats": "md"},
        {"pdf_heading_hierarchy_options": ""},
        {
            "pdf_heading_hierarchy_options": SCHEMAS[CONVERT]["properties"][
                "pdf_heading_hierarchy_options"
            ]["default"]
        },
    ],
    ids=str,
)
async def test_empty_and_default_values_count_as_not_sent(fields: dict[str, Any]) -> None:
    assert await sent(fields) == {}


async def test_an_explicit_default_does_not_hide_the_deprecated_engine() -> None:
    response = await post_form(CONVERT, {"ocr_engine": "zzz", "ocr_preset": "auto"})
    assert errors(response).startswith("OCR preset 'zzz' is not allowed. Allowed presets: auto, ")


async def test_deprecated_engine_becomes_the_preset() -> None:
    response = await post_form(CONVERT, {"ocr_engine": "rapidocr"})
    assert response.json()["ocr_preset"] == "rapidocr"


async def test_objects_are_json_text() -> None:
    fields = {
        "layout_custom_config": '{"kind": "plain"}',
        "chunking_options": '{"chunker": "hybrid", "max_tokens": 99}',
        "pdf_heading_hierarchy_options": '{"max_level": 3}',
    }
    understood = await sent(fields)
    assert understood["layout_custom_config"] == {"kind": "plain"}
    assert understood["chunking_options"] == {"chunker": "hybrid", "max_tokens": 99}
    assert understood["pdf_heading_hierarchy_options"] == {"max_level": 3}


@pytest.mark.parametrize(
    ("fields", "kind", "loc"),
    [
        ({"layout_custom_config": "[]"}, "dict_type", ["layout_custom_config"]),
        ({"vlm_pipeline_custom_config": '"text"'}, "dict_type", ["vlm_pipeline_custom_config"]),
        (
            {"chart_extraction_custom_config": "{"},
            "json_invalid",
            ["chart_extraction_custom_config"],
        ),
        ({"layout_custom_config": "[" * 99999}, "json_invalid", ["layout_custom_config"]),
        (
            {"picture_description_api": '{"url": "nowhere"}'},
            "url_parsing",
            ["picture_description_api", "url"],
        ),
        (
            {"chunking_options": '{"chunker": "hybrid", "max_tokens": "x"}'},
            "int_parsing",
            ["chunking_options", "hybrid", "max_tokens"],
        ),
        ({"do_table_structure": "maybe"}, "bool_parsing", ["do_table_structure"]),
        ({"images_scale": "big"}, "float_parsing", ["images_scale"]),
        ({"page_range": "2"}, "missing", ["page_range", 1]),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_errors_are_reported_under_the_form_field(
    fields: dict[str, Any], kind: str, loc: list[Any]
) -> None:
    (error,) = errors(await post_form(CONVERT, fields))
    assert (error["type"], error["loc"]) == (kind, ["body", *loc])


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "On"])
async def test_booleans_have_many_spellings(text: str) -> None:
    assert await sent({"force_ocr": text}) == {"force_ocr": True}


async def test_exclusive_options_are_an_error_of_the_body() -> None:
    fields = {"layout_custom_config": '{"kind": "plain"}', "layout_preset": "default"}
    (error,) = errors(await post_form(CONVERT, fields))
    assert (error["type"], error["loc"]) == ("value_error", ["body"])


async def test_unknown_fields_are_ignored() -> None:
    assert await sent({"no_such_option": "1"}) == {}


async def test_chunk_forms_have_prefixes() -> None:
    fields = {
        "convert_do_ocr": "false",
        "convert_to_formats": "json",
        "convert_chunking_preset": "hierarchical",
        "chunking_max_tokens": "7",
        "chunking_merge_peers": "no",
        "include_converted_doc": "true",
    }
    understood = (await post_form(HYBRID, fields)).json()
    assert understood["options"]["do_ocr"] is False
    assert understood["options"]["to_formats"] == ["md"]
    assert understood["options"]["chunking_preset"] is None
    assert "do_ocr" in understood["sent"]
    assert understood["chunking"]["chunker"] == "hybrid"
    assert understood["chunking"]["max_tokens"] == 7
    assert understood["chunking"]["merge_peers"] is False
    assert understood["include_converted_doc"] is True


async def test_chunk_errors_name_the_prefixed_field() -> None:
    (error,) = errors(await post_form(HYBRID, {"chunking_max_tokens": "many"}))
    assert error["loc"] == ["body", "chunking_max_tokens"]
    (error,) = errors(
        await post_form(HYBRID, {"convert_picture_description_api": '{"url": "nowhere"}'})
    )
    assert error["loc"] == ["body", "convert_picture_description_api", "url"]


async def test_callbacks_are_urls_or_objects() -> None:
    spec = {"url": "https://example.org/b", "headers": {"X-A": "1"}, "ca_cert": ""}
    first = {"url": "https://example.org/a,b", "headers": {}, "ca_cert": ""}
    for values in (
        [first["url"], json.dumps(spec), " "],
        [first["url"], str(spec)],
        json.dumps([first["url"], spec]),
    ):
        response = await post_form(CONVERT, {"callbacks": values})
        assert response.json()["callbacks"] == [first, spec]


@pytest.mark.parametrize("text", ["nope", "{bad", '["nope"]', '{"url": "nope"}'])
async def test_other_callbacks_are_refused(text: str) -> None:
    (error,) = errors(await post_form(CONVERT, {"callbacks": ["https://example.org", text]}))
    assert (error["type"], error["loc"]) == ("url_parsing", ["body", "callbacks"])


@pytest.mark.parametrize(
    ("fields", "target"), [({}, None), ({"target_type": ""}, None), ({"target_type": "zip"}, "zip")]
)
async def test_target_type_tells_whether_it_was_sent(
    fields: dict[str, Any], target: str | None
) -> None:
    assert (await post_form(CONVERT, fields)).json()["target_type"] == target


async def test_a_text_field_named_files_is_refused() -> None:
    (error,) = errors(await post(CONVERT, files={"files": (None, "text")}))
    assert (error["type"], error["loc"][:2]) == ("value_error", ["body", "files"])


class Wanted(BaseModel):
    """A model of our own: one field without default, one with a list made for each instance."""

    name: str
    tags: list[str] = []


def test_any_model_can_be_a_form() -> None:
    part = form_model(Wanted, "x_", exclude={"tags"})
    assert list(part.fields) == ["x_name"]
    assert part.make({"x_name": "n", "y_name": "m"}) == Wanted(name="n")
    assert MultipartForm(part).schema("Body")["required"] == ["x_name"]
