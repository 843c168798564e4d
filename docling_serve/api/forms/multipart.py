"""Multipart forms that are read whole: only the fields that were sent are validated.

The forms have some sixty fields, and a request sends few of them. FastAPI resolves each of them
for each request, which takes longer than everything else the server does with a small document.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import PydanticCustomError
from starlette.datastructures import FormData

from docling_serve.api.forms.spelling import read_list, read_object

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

REF = "#/components/schemas/{model}"
#: How clients spell no value, in JSON and in Python.
NULLS = ("null", "None")


@dataclass(frozen=True)
class FormField:
    """One field of a form. ``default`` is what the form's schema shows, ``...`` where the field is
    required. With ``items_are_whole`` each value sent for a list is one item."""

    annotation: Any
    default: Any = ...
    description: str | None = None
    items_are_whole: bool = False

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.annotation)

    @cached_property
    def _is_list(self) -> bool:
        return _is_list(self.annotation)

    @cached_property
    def _unset(self) -> tuple[str, ...]:
        """The texts that count as not sent."""
        return ("", *NULLS) if _allows_none(self.annotation) else ("",)

    def sent(self, name: str, form: FormData) -> Any:
        """What ``form`` has under ``name``: the items of a list, else the last value; None where
        that is empty, or null in a field that may be null: such a value counts as not sent."""
        if self._is_list:
            values = form.getlist(name)
            return (values if self.items_are_whole else read_list(values)) or None
        value = form.get(name)
        return None if value in self._unset else value

    def validate(self, value: Any) -> Any:
        """Raises ``ValidationError``."""
        return self._adapter.validate_python(value)


@dataclass(frozen=True)
class Part(Generic[T_co]):
    """Some fields of a form, and what is made of their values. ``make`` gets the validated values
    of the fields that were sent, by name; it may raise ``RequestValidationError``. ``objects`` are
    fields that the schema does not show, each with the names that are valid in it; ``make`` gets
    them as dictionaries."""

    fields: dict[str, FormField]
    make: Callable[[dict[str, Any]], T_co]
    objects: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class SentForm:
    """The fields that a request has sent."""

    values: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, part: Part[T]) -> T:
        return part.make(self.values)


class MultipartForm:
    """The form of a route, made of ``parts``."""

    def __init__(self, *parts: Part[Any]) -> None:
        self._fields = {name: field for part in parts for name, field in part.fields.items()}
        self._objects = {name: keys for part in parts for name, keys in part.objects.items()}
        self._required = [name for name, field in self._fields.items() if field.default is ...]

    async def read(self, request: Request) -> SentForm:
        """Read the fields sent with ``request``. Fields that the form does not have are ignored;
        their names are then in ``request.state.ignored_fields``.

        Raises:
            HTTPException: 400, the body is not a form.
            RequestValidationError: naming each field that is missing or invalid.
        """
        form = await _parse(request)
        values: dict[str, Any] = {}
        errors: list[dict[str, Any]] = []
        request.state.ignored_fields = [
            name for name in form if name not in self._fields and name not in self._objects
        ]
        for name in self._objects.keys() & form.keys():
            try:
                values[name] = _object(form[name])
            except PydanticCustomError as exc:
                errors.append(_refused(exc, name))
                continue
            request.state.ignored_fields += [
                f"{name}.{key}" for key in values[name] if key not in self._objects[name]
            ]
        for name in form:
            known = self._fields.get(name)
            value = None if known is None else known.sent(name, form)
            if known is None or value is None:
                continue
            try:
                values[name] = known.validate(value)
            except ValidationError as exc:
                errors += errors_under(exc, ("body", name))
        refused = {error["loc"][1] for error in errors}
        errors += [_missing(n) for n in self._required if n not in values and n not in refused]
        if errors:
            raise RequestValidationError(errors)
        return SentForm(values)

    def schema(self, title: str) -> dict[str, Any]:
        """The form as JSON schema, for OpenAPI. The models that its fields refer to are under
        ``$defs``, and referred to as components of the document."""
        fields: dict[str, Any] = {
            name: (
                field.annotation,
                Field(field.default, description=field.description),
            )
            for name, field in self._fields.items()
        }
        model: type[BaseModel] = create_model(title, **fields)
        return _without_none(model.model_json_schema(ref_template=REF))


def form_body(name: str) -> dict[str, Any]:
    """The ``openapi_extra`` of a route with this form; ``name`` is that of its schema."""
    schema = {"$ref": REF.format(model=name)}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


def errors_under(exc: ValidationError, loc: tuple[str, ...]) -> list[dict[str, Any]]:
    """The errors of ``exc``, located at ``loc`` in the request."""
    return [{**error, "loc": (*loc, *error["loc"])} for error in exc.errors(include_url=False)]


def _without_none(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` without defaults of null, which FastAPI leaves out of its documents."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in schema.items()
        if value is not None
    }


async def _parse(request: Request) -> FormData:
    try:
        return await request.form()
    except HTTPException:
        raise
    except Exception as exc:
        raise HTTPException(400, "There was an error parsing the body") from exc


def _object(sent: Any) -> dict[str, Any]:
    text = sent.strip() if isinstance(sent, str) else "[]"  # a file is not an object
    return {} if text in ("", *NULLS) else read_object(text)


def _refused(exc: PydanticCustomError, name: str) -> dict[str, Any]:
    return {"type": exc.type, "loc": ("body", name), "msg": exc.message(), "input": None}


def _missing(name: str) -> dict[str, Any]:
    return {"type": "missing", "loc": ("body", name), "msg": "Field required", "input": None}


def _allows_none(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _allows_none(get_args(annotation)[0])
    return type(None) in get_args(annotation)


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_list(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return any(_is_list(member) for member in get_args(annotation))
    kind = origin or annotation
    return (
        isinstance(kind, type) and issubclass(kind, Sequence) and not issubclass(kind, str | bytes)
    )
