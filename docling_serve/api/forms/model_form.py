"""Read a pydantic model from a multipart form, one form field per model field.

FastAPI can take a model as a form, but not objects as JSON text, not a prefix, and not the rule
that a value equal to the default counts as not sent (upstream D23-D25, D31).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from fastapi import Form
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError, WithJsonSchema, WrapValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

ModelT = TypeVar("ModelT", bound=BaseModel)


def form_model(
    model: type[ModelT], prefix: str = "", exclude: Collection[str] = ()
) -> Callable[..., Awaitable[ModelT]]:
    """Make a FastAPI dependency that reads ``model`` from form fields named ``prefix + field``.

    Lists are repeated fields and objects are JSON text. An empty value is not set, and so is
    ``null`` for an object. A value equal to the field's default is treated as not sent, so it is
    missing from ``model_fields_set``. Fields in ``exclude`` keep their defaults.

    The dependency raises ``RequestValidationError`` whose ``loc`` is ``("body", <form field>)``,
    with the path inside an object after it, or ``("body",)`` for an error across fields.
    """
    fields = {
        prefix + name: _FormField.of(name, info)
        for name, info in model.model_fields.items()
        if name not in exclude
    }

    async def read_form(**values: Any) -> ModelT:
        sent = {
            field.name: values[form_name]
            for form_name, field in fields.items()
            if form_name in values and not field.is_unset(values[form_name])
        }
        try:
            return model(**sent)
        except ValidationError as exc:
            raise RequestValidationError(_under_form_names(exc, prefix)) from exc

    read_form.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [field.parameter(form_name) for form_name, field in fields.items()]
    )
    return read_form


@dataclass(frozen=True)
class _FormField:
    """How one model field appears in the form. ``default`` is ``...`` for a required one."""

    name: str
    annotation: Any
    default: Any
    form_default: Any
    description: str | None

    @classmethod
    def of(cls, name: str, info: FieldInfo) -> _FormField:
        default = info.get_default(call_default_factory=True)
        if default is PydanticUndefined:
            default = ...
        annotation: Any = info.annotation
        form_default = default
        if _holds_object(annotation):
            annotation = _json_text(annotation)
            if isinstance(default, BaseModel):
                form_default = json.dumps(default.model_dump(mode="json"))
        else:
            for constraint in info.metadata:
                annotation = Annotated[annotation, constraint]
        return cls(name, annotation, default, form_default, info.description)

    def parameter(self, form_name: str) -> inspect.Parameter:
        return inspect.Parameter(
            form_name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if self.form_default is ... else self.form_default,
            annotation=Annotated[self.annotation, Form(description=self.description)],
        )

    def is_unset(self, value: Any) -> bool:
        """Whether ``value`` says nothing: empty, or what the model would fill in anyway."""
        if value is None or value == [""] or value in (self.default, self.form_default):
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
    if text in ("", "null"):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise PydanticCustomError(
            "json_invalid", "Invalid JSON: {error}", {"error": str(exc)}
        ) from None
    if not isinstance(parsed, dict):
        raise PydanticCustomError("dict_type", "Input should be a valid dictionary")
    return parsed


def _under_form_names(exc: ValidationError, prefix: str) -> list[dict[str, Any]]:
    errors: list[dict[str, Any]] = []
    for error in exc.errors(include_url=False):
        field, *rest = error["loc"] or (None,)
        loc = ("body",) if field is None else ("body", f"{prefix}{field}", *rest)
        errors.append({**error, "loc": loc})
    return errors
