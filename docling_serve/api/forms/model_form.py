"""A pydantic model as part of a multipart form, one form field per model field.

FastAPI can take a model as a form, but not objects as JSON text, not a prefix, and not the rule
that a value equal to the default counts as not sent (upstream D23-D25, D31).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError, WithJsonSchema, WrapValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from docling_serve.api.forms.multipart import NULLS, FormField, Part
from docling_serve.api.forms.spelling import read_object

ModelT = TypeVar("ModelT", bound=BaseModel)


def form_model(
    model: type[ModelT],
    prefix: str = "",
    exclude: Collection[str] = (),
    then: Callable[[ModelT], ModelT] = lambda made: made,
    *,
    whole: Collection[str] = (),
) -> Part[ModelT]:
    """``model`` as form fields named ``prefix + field``; ``then`` may adjust the result last.

    Lists and objects are spelled as :mod:`docling_serve.api.forms.spelling` reads them. Each field
    named in ``whole`` is an object with many fields of the model, as a JSON request has them; a
    field of the form takes precedence over it. An empty value counts as not set, and so do
    ``null`` and ``None`` where the model allows none. A value equal to the field's default is
    treated as not sent, so it is missing from ``model_fields_set``. Fields in ``exclude`` keep
    their defaults.

    Making it raises ``RequestValidationError`` whose ``loc`` is ``("body", <form field>)``, with
    the path inside an object after it, or ``("body",)`` for an error across fields.
    """
    fields = {
        prefix + name: _ModelField.of(name, info)
        for name, info in model.model_fields.items()
        if name not in exclude
    }

    def make(values: dict[str, Any]) -> ModelT:
        sent = {
            fields[name].name: value
            for name, value in values.items()
            if name in fields and not fields[name].is_unset(value)
        }
        given = {field: name for name in whole for field in values.get(name, ())}
        objects = {field: values[name][field] for field, name in given.items()}
        try:
            return then(model(**{**objects, **sent}))
        except ValidationError as exc:
            inside = {field: name for field, name in given.items() if field not in sent}
            raise RequestValidationError(_under_form_names(exc, prefix, inside)) from exc

    known = frozenset(model.model_fields)
    return Part(
        {name: field.form for name, field in fields.items()}, make, dict.fromkeys(whole, known)
    )


@dataclass(frozen=True)
class _ModelField:
    """A field of a model, and how it appears in the form. ``default`` is ``...`` for a required
    one."""

    name: str
    default: Any
    form: FormField

    @classmethod
    def of(cls, name: str, info: FieldInfo) -> _ModelField:
        default = info.get_default(call_default_factory=True)
        if default is PydanticUndefined:
            default = ...
        annotation: Any = info.annotation
        shown = default
        if _holds_object(annotation):
            annotation = _json_text(annotation)
            if isinstance(default, BaseModel):
                shown = json.dumps(default.model_dump(mode="json"))
        else:
            for constraint in info.metadata:
                annotation = Annotated[annotation, constraint]
        return cls(name, default, FormField(annotation, shown, info.description))

    def is_unset(self, value: Any) -> bool:
        """Whether ``value`` adds nothing: empty, or what the model would fill in anyway."""
        if value is None or value == [""] or value in (self.default, self.form.default):
            return True
        if isinstance(value, dict) and isinstance(self.default, BaseModel):
            return bool(value == self.default.model_dump(mode="json"))
        return False


def _holds_object(annotation: Any) -> bool:
    """Whether a value of this type is an object in JSON: a model, a mapping, a union with one."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _holds_object(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return any(_holds_object(member) for member in get_args(annotation))
    kind = origin or annotation
    return isinstance(kind, type) and issubclass(kind, BaseModel | Mapping)


def _json_text(annotation: Any) -> Any:
    # The form schema of docling-serve shows such a field as text, except where the union has an
    # annotated member (chart extraction): there the model's own schema shows.
    if any(get_origin(member) is Annotated for member in get_args(annotation)):
        return Annotated[annotation, WrapValidator(_parse_object)]
    # Not the model's own type: FastAPI would spread its fields over the form.
    return Annotated[Any, WrapValidator(_parse_object), WithJsonSchema({"type": "string"})]


def _parse_object(value: Any, _: ValidatorFunctionWrapHandler) -> Any:
    # The model itself validates what comes out, with its own validators and discriminators.
    if not isinstance(value, str):
        return value
    text = value.strip()
    return None if text in ("", *NULLS) else read_object(text)


def _under_form_names(
    exc: ValidationError, prefix: str, inside: Mapping[str, str]
) -> list[dict[str, Any]]:
    """``inside`` names the object of the form that held a field of the model, if any."""
    errors: list[dict[str, Any]] = []
    for error in exc.errors(include_url=False):
        field, *rest = error["loc"] or (None,)
        place: tuple[Any, ...] = () if field is None else (f"{prefix}{field}",)
        if field in inside:
            place = (inside[str(field)], field)
        errors.append({**error, "loc": ("body", *place, *rest)})
    return errors
