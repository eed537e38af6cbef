"""The model read into shapes."""

from __future__ import annotations

import pytest

from sidecar.config import model, scalars
from sidecar.config.shapes import (
    BindShape,
    BoolShape,
    EitherShape,
    ListShape,
    MapShape,
    NumberShape,
    SecretShape,
    Shape,
    StructShape,
    WordShape,
    WrittenShape,
    keys_without_secrets,
    struct_shape,
    structs,
)


def shape(struct: type[model.Model], name: str) -> Shape:
    return struct_shape(struct).fields[name].shape


def test_every_kind_of_key_has_its_shape() -> None:
    assert shape(model.Listener, "bind") == BindShape()
    assert shape(model.Log, "access") == BoolShape()
    assert shape(model.Route, "port") == NumberShape(whole=True, low=1, high=65535)
    assert shape(model.Refresh, "at") == NumberShape(whole=False, low=0, high=1)
    assert shape(model.Configuration, "unmatched") == WordShape(("deny", "forward"))
    assert shape(model.Credential, "client_secret") == SecretShape()
    assert shape(model.Route, "methods") == ListShape(WrittenShape("method"))
    assert shape(model.Limits, "head") == WrittenShape("size", low=1024, high=1 << 20)
    assert shape(model.Limits, "connect") == WrittenShape("duration", low=0, high=366 * 86400, above_low=True)
    assert isinstance(shape(model.Configuration, "credentials"), MapShape)
    assert isinstance(shape(model.Configuration, "limits"), StructShape)
    assert isinstance(shape(model.Listener, "auth"), EitherShape)


def test_a_key_knows_whether_it_may_be_left_out() -> None:
    fields = struct_shape(model.Route).fields

    assert fields["host"].required
    assert not fields["port"].required
    assert fields["port"].nullable
    assert not fields["paths"].nullable
    assert fields["paths"].default == ("/",)
    assert struct_shape(model.Credential).fields["token_params"].default == {}


def test_every_struct_of_the_model_is_reached() -> None:
    reached = {found.model for found in structs()}
    declared = {
        each
        for each in vars(model).values()
        if isinstance(each, type) and issubclass(each, model.Model) and each is not model.Model
    }

    assert declared - reached == {model.Bind}


def test_every_way_of_writing_has_its_reader() -> None:
    def kinds(found: Shape) -> set[str]:
        match found:
            case WrittenShape(kind):
                return {kind}
            case ListShape(item):
                return kinds(item)
            case MapShape(key, value):
                return kinds(key) | kinds(value)
            case EitherShape(scalar, other):
                return kinds(scalar) | kinds(other)
        return set()

    used = {kind for found in structs() for field in found.fields.values() for kind in kinds(field.shape)}
    assert used == set(scalars.KINDS)


def test_keys_of_secrets_are_not_among_those_that_may_be_shown() -> None:
    assert "mode" in keys_without_secrets()
    assert not {"client_secret", "token", "key", "value", "proxy_password", "token_params"} & keys_without_secrets()


def test_a_type_without_a_shape_is_a_mistake_of_the_programmer() -> None:
    class Odd(model.Model, frozen=True, kw_only=True):
        key: bytes = b""

    with pytest.raises(TypeError, match="has no shape"):
        struct_shape(Odd)
