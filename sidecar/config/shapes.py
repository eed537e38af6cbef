"""The model's types, read once into shapes: what ``walker`` checks a tree against and ``schema`` prints.

Everything about a key comes from its annotation in ``model``: type, limits, the way it is written, whether it may be
left out. There is no second list of keys.
"""

from __future__ import annotations

import functools
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from sidecar.config.model import Bind, Configuration, Model
from sidecar.secrets import SecretReference


@dataclass(frozen=True, slots=True)
class StructShape:
    """A mapping with known keys."""

    model: type[Model]
    fields: dict[str, FieldShape]


@dataclass(frozen=True, slots=True)
class FieldShape:
    """A key: ``nullable`` where the model takes None, and then null in the file means that."""

    name: str
    shape: Shape
    required: bool
    nullable: bool
    default: Any


@dataclass(frozen=True, slots=True)
class ListShape:
    item: Shape


@dataclass(frozen=True, slots=True)
class MapShape:
    """A mapping whose keys the user chooses."""

    key: WrittenShape
    value: Shape


@dataclass(frozen=True, slots=True)
class WordShape:
    """One of a few words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BoolShape:
    pass


@dataclass(frozen=True, slots=True)
class NumberShape:
    """A bare number."""

    whole: bool
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class WrittenShape:
    """A scalar that ``scalars.KINDS[kind]`` reads; ``low`` itself is excluded if ``above_low``."""

    kind: str
    low: float | None = None
    high: float | None = None
    above_low: bool = False


@dataclass(frozen=True, slots=True)
class SecretShape:
    """A reference to a secret."""


@dataclass(frozen=True, slots=True)
class BindShape:
    """An address to listen on: a scalar, or a mapping for a Unix socket."""


@dataclass(frozen=True, slots=True)
class EitherShape:
    """One of two forms, told apart by whether the node is a scalar."""

    scalar: Shape
    other: Shape


Shape = (
    StructShape
    | ListShape
    | MapShape
    | WordShape
    | BoolShape
    | NumberShape
    | WrittenShape
    | SecretShape
    | BindShape
    | EitherShape
)
_NONE: Final = type(None)


@functools.cache
def struct_shape(model: type[Model]) -> StructShape:
    """The shape of one struct of the model."""
    return StructShape(model, {info.name: _field(info) for info in msgspec.structs.fields(model)})


def _field(info: msgspec.structs.FieldInfo) -> FieldShape:
    options = _options(info.type)
    rest = tuple(option for option in options if option is not _NONE)
    return FieldShape(
        name=info.name,
        shape=_shape(rest),
        required=info.required,
        nullable=len(rest) < len(options),
        default=info.default_factory() if info.default_factory is not msgspec.NODEFAULT else info.default,
    )


def _options(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _shape(options: tuple[Any, ...]) -> Shape:
    if len(options) == 1:
        return _single(options[0])
    shapes = [_single(option) for option in options]
    scalar, other = sorted(shapes, key=lambda shape: isinstance(shape, StructShape | ListShape))
    return EitherShape(scalar, other)


def _single(hint: Any) -> Shape:
    if isinstance(hint, type) and issubclass(hint, Model):
        return BindShape() if hint is Bind else struct_shape(hint)
    if hint is SecretReference:
        return SecretShape()
    if hint is bool:
        return BoolShape()
    arguments = typing.get_args(hint)
    match typing.get_origin(hint):
        case origin if origin is Literal:
            return WordShape(arguments)
        case origin if origin is Annotated:
            return _annotated(*arguments)
        case origin if origin is tuple:
            return ListShape(_shape(_options(arguments[0])))
        case origin if origin is dict:
            key = _single(arguments[0])
            assert isinstance(key, WrittenShape)  # noqa: S101 - the model's maps have named keys
            return MapShape(key, _shape(_options(arguments[1])))
    raise TypeError(f"the model uses a type that has no shape: {hint}")


def _annotated(base: type, meta: msgspec.Meta) -> Shape:
    low = meta.gt if meta.ge is None else meta.ge
    if meta.extra is not None:
        return WrittenShape(meta.extra["scalar"], low=low, high=meta.le, above_low=meta.gt is not None)
    assert low is not None  # noqa: S101 - every number of the model has its bounds
    assert meta.le is not None  # noqa: S101
    return NumberShape(whole=base is int, low=low, high=meta.le)


@functools.cache
def keys_without_secrets() -> frozenset[str]:
    """Names of keys whose value is a single scalar that is no secret, wherever they stand."""
    public: set[str] = {"unix"}
    secret: set[str] = set()
    for shape in structs():
        for field in shape.fields.values():
            holds_secret = isinstance(field.shape, SecretShape | MapShape)
            (secret if holds_secret else public).add(field.name)
    return frozenset(public - secret)


def structs() -> list[StructShape]:
    """Every struct of the model, from the root down."""
    found: dict[type[Model], StructShape] = {}

    def visit(shape: Shape) -> None:
        match shape:
            case StructShape():
                found[shape.model] = shape
                for field in shape.fields.values():
                    visit(field.shape)
            case ListShape(item):
                visit(item)
            case MapShape(_, value):
                visit(value)
            case EitherShape(scalar, other):
                visit(scalar)
                visit(other)

    visit(struct_shape(Configuration))
    return list(found.values())
