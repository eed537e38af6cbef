"""JSON Schema (draft 2020-12) of the configuration file, for editors: keys, types, words and forms of writing.

Made from the same shapes that the walk checks against, in the forms that stand in the file: durations and sizes are
strings with their unit, a secret is a reference. What this version does not support is left at its default only. Rules
across keys are not in it; they are for ``load``.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, Final, cast

from sidecar.config import scalars
from sidecar.config.model import NOT_YET, Bind, Configuration, Model
from sidecar.config.shapes import (
    BindShape,
    BoolShape,
    EitherShape,
    FieldShape,
    ListShape,
    MapShape,
    NumberShape,
    SecretShape,
    Shape,
    StructShape,
    WordShape,
    WrittenShape,
    struct_shape,
)

Schema = dict[str, Any]

_SECRET: Final[Schema] = {
    "type": "string",
    "pattern": r"^(file|env|cred):.+",
    "description": "Where the secret stands: file:PATH, env:NAME or cred:NAME.",
}
_SOCKET: Final[Schema] = {
    "type": "object",
    "properties": {
        "unix": {"type": "string", "pattern": "^/"},
        "mode": {"type": ["string", "integer"], "pattern": "^0?[0-7]{3}$"},
        "group": {"type": ["string", "integer"]},
    },
    "required": ["unix"],
    "additionalProperties": False,
}
_BIND: Final[Schema] = {
    "description": "An address to listen on.",
    "anyOf": [
        {"type": "string", "pattern": r"^(unix:/.+|(\[[0-9A-Fa-f:.]+\]|[0-9.]+|localhost):[0-9]{1,5})$"},
        _SOCKET,
    ],
}


def json_schema() -> Schema:
    """The schema of the whole file."""
    root = struct_shape(Configuration)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Token Sidecar configuration",
        **_struct(root, ""),
    }


def written_default(field: FieldShape) -> Any:
    """A key's default as it would stand in the file."""
    return _as_written(field.default, field.shape)


def _as_written(value: Any, shape: Shape) -> Any:
    match value, shape:
        case Model(), StructShape(fields=fields):
            return {name: _as_written(getattr(value, name), known.shape) for name, known in fields.items()}
        case Bind(), _:
            return str(value)
        case _, WrittenShape("duration"):
            return scalars.written_duration(value)
        case _, WrittenShape("size"):
            return scalars.written_size(value)
        case tuple(), ListShape(item):
            return [_as_written(element, item) for element in value]
    return value


def _struct(shape: StructShape, path: str) -> Schema:
    properties = {name: _field(known, f"{path}{name}") for name, known in shape.fields.items()}
    required = [name for name, known in shape.fields.items() if known.required]
    schema: Schema = {"type": "object", "description": _description(shape.model), "properties": properties}
    if required:
        schema["required"] = required
    return {**schema, "additionalProperties": False}


def _description(model: type[Model]) -> str:
    return cleandoc(model.__doc__ or "").replace("``", "")


def _field(known: FieldShape, path: str) -> Schema:
    if NOT_YET.get(path) == ():
        return {"description": "Not supported by this version.", "const": written_default(known)}
    schema = _shape(known.shape, path)
    if known.nullable:
        schema = _or_null(schema)
    if not known.required and known.default is not None:
        schema["default"] = written_default(known)
    return schema


def _or_null(schema: Schema) -> Schema:
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*types, "null"]}


def _shape(shape: Shape, path: str) -> Schema:
    match shape:
        case StructShape():
            return _struct(shape, f"{path}.")
        case ListShape(item):
            return {"type": "array", "items": _shape(item, f"{path}.*")}
        case MapShape(key, value):
            names = {"propertyNames": {"pattern": pattern}} if (pattern := scalars.KINDS[key.kind].pattern) else {}
            return {"type": "object", **names, "additionalProperties": _shape(value, f"{path}.*")}
        case WordShape(words):
            return {"enum": [word for word in words if word not in NOT_YET.get(path, ())]}
        case BoolShape():
            return {"type": "boolean"}
        case NumberShape(whole, low, high):
            return {"type": "integer" if whole else "number", "minimum": low, "maximum": high}
        case WrittenShape():
            return _written(shape)
        case SecretShape():
            return dict(_SECRET)
        case BindShape():
            return dict(_BIND)
        case EitherShape(scalar, other):
            return {"anyOf": [_shape(scalar, path), _shape(other, path)]}


def _written(shape: WrittenShape) -> Schema:
    kind = scalars.KINDS[shape.kind]
    # A bare integer keeps its digits where text is wanted, so it is allowed there; a duration needs its unit.
    schema: Schema = {"type": "string" if kind.odd_allowed else ["string", "integer"]}
    if kind.pattern:
        schema["pattern"] = kind.pattern
    if shape.low is not None and shape.high is not None:
        show = scalars.written_size if shape.kind == "size" else scalars.written_duration
        low, high = show(cast("int", shape.low)), show(cast("int", shape.high))
        schema["description"] = f"From {low} to {high}." if not shape.above_low else f"More than {low}, at most {high}."
    return schema
