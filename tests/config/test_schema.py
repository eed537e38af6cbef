"""The JSON Schema: valid by itself, and true to what loads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.config import load
from sidecar.config.model import NOT_YET, Credential
from sidecar.config.schema import json_schema, written_default
from sidecar.config.shapes import struct_shape, structs
from tests.config.conftest import VALID

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
SCHEMA = json_schema()
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def violations(value: Any, schema: dict[str, Any], path: str = "$") -> list[str]:
    """What of a value does not fit; the part of JSON Schema that ours uses, and nothing else."""
    unknown = set(schema) - KNOWN
    assert not unknown, unknown
    if "anyOf" in schema:
        options = [violations(value, option, path) for option in schema["anyOf"]]
        return [] if [] in options else options[0]
    if "const" in schema:
        return [] if value == schema["const"] else [f"{path}: not {schema['const']}"]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{path}: none of {schema['enum']}"]
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    # True is an int to Python, and none to JSON.
    if not any(isinstance(value, TYPES[name]) and (name == "boolean") == isinstance(value, bool) for name in types):
        return [f"{path}: not {types}"]
    return _within(value, schema, path)


KNOWN = {"$schema", "title", "description", "default", "anyOf", "const", "enum", "type", "pattern", "properties"}
KNOWN |= {"required", "additionalProperties", "propertyNames", "items", "minimum", "maximum"}


def _within(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    match value:
        case dict():
            return _mapping(value, schema, path)
        case list():
            return [
                text for index, one in enumerate(value) for text in violations(one, schema["items"], f"{path}[{index}]")
            ]
        case str() if "pattern" in schema and not re.search(schema["pattern"], value):
            return [f"{path}: {value} does not match {schema['pattern']}"]
        case int() | float() if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            return [f"{path}: out of bounds"]
    return []


def _mapping(value: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
    found = [f"{path}: {name} is missing" for name in schema.get("required", ()) if name not in value]
    names = schema.get("propertyNames", {}).get("pattern", "")
    for name, one in value.items():
        known = schema.get("properties", {}).get(name, schema["additionalProperties"])
        if known is False or not re.search(names, name):
            found.append(f"{path}: {name} is not known")
        else:
            found += violations(one, known, f"{path}.{name}")
    return found


def test_it_is_json_and_says_which_draft_it_follows() -> None:
    assert json.loads(json.dumps(SCHEMA))["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_example_fits() -> None:
    assert violations(yaml.safe_load(EXAMPLE.read_text()), SCHEMA) == []


@pytest.mark.parametrize(
    "line",
    [
        "logg: {}",
        "log: {level: loud}",
        "log: {access: 'true'}",
        "limits: {head: 64KB}",
        "limits: {connect: 5}",
        "limits: {fields: 0}",
        "limits: {fields: true}",
        "telemetry: {bind: example.com}",
        "telemetry: {bind: {mode: '0660'}}",
        "admin: {bind: example.com}",
        "admin: {token: hunter2}",
        "routes: [{host: https://a.example, credential: orders}]",
        "routes: [{credential: orders}]",
        "listeners: [{name: a, bind: '127.0.0.1:6180', auth: everybody}]",
        "listeners: [{name: a, bind: '127.0.0.1:6180', auth: {password: env:A}}]",
        "listeners: [{name: a, bind: '127.0.0.1:6180', auth: {proxy_password: hunter2}}]",
        "listeners: [{name: a, bind: unix:/run/a, auth: {peer_uids: [-1]}}]",
        "routes: [{host: a.example, credential: orders, methods: [get]}]",
        "credentials: {a: {grant: password}}",
        "credentials: {a: {client_secret: hunter2}}",
        "credentials: {a: {token_url: ftp://a.example}}",
        "credentials: {'a b': {grant: static}}",
    ],
)
def test_what_does_not_load_does_not_fit(line: str) -> None:
    text = line + "\n"
    if not line.startswith("listeners"):
        text = "listeners: [{name: a, bind: '127.0.0.1:6180'}]\n" + text

    assert violations(yaml.safe_load(text), SCHEMA) != []
    with pytest.raises(load.ConfigurationErrors):
        load.parse(text, "config.yaml")


def test_what_loads_fits() -> None:
    text = VALID + (
        "telemetry: {bind: {unix: /run/a.sock, mode: '0660'}}\n"
        "admin: null\nunmatched: forward\nlimits: {fields: 7, replay_body: 0B, drain: 0s}\n"
    )
    text = text.replace("orders-worker", "12").replace(
        "    client_id", "    token_params: {a: [b, c], d: 1}\n    client_id"
    )

    load.parse(text, "config.yaml")
    assert violations(yaml.safe_load(text), SCHEMA) == []


@pytest.mark.parametrize(
    "listener",
    [
        "bind: '127.0.0.1:6180', auth: none",
        "bind: '127.0.0.1:6180', auth: {proxy_password: file:/run/password}",
        "bind: unix:/run/a, auth: {peer_uids: [0, 1000]}",
    ],
)
def test_each_way_to_say_who_may_use_a_listener_fits(listener: str) -> None:
    text = f"listeners: [{{name: a, {listener}}}]\n"

    load.parse(text, "config.yaml")
    assert violations(yaml.safe_load(text), SCHEMA) == []


def test_every_struct_is_closed_and_described() -> None:
    found = structs_in(SCHEMA)

    assert len(found) > 8
    assert all(each["additionalProperties"] is False for each in found)
    assert all(each.get("description") for each in found if "unix" not in each["properties"])


def structs_in(schema: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    inner += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    return [schema] * ("properties" in schema) + [found for one in inner for found in structs_in(one)]


def test_defaults_are_written_as_in_the_file() -> None:
    properties = SCHEMA["properties"]

    assert properties["limits"]["properties"]["head"]["default"] == "64KiB"
    assert properties["limits"]["properties"]["drain"]["default"] == "25s"
    assert properties["telemetry"]["default"] == {"bind": "127.0.0.1:6181"}
    assert written_default(struct_shape(Credential).fields["default_ttl"]) == "5m"


def test_every_default_fits_its_own_schema() -> None:
    def check(schema: dict[str, Any], path: str) -> None:
        for name, one in schema.get("properties", {}).items():
            if "default" in one:
                assert violations(one["default"], one, f"{path}.{name}") == []
            check(one, f"{path}.{name}")

    check(SCHEMA, "$")


def test_what_is_not_supported_is_left_at_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NOT_YET, "simulation.enabled", ())
    simulation = json_schema()["properties"]["simulation"]["properties"]

    assert simulation["enabled"] == {"description": "Not supported by this version.", "const": False}


def test_every_key_of_the_model_is_in_it() -> None:
    text = json.dumps(SCHEMA)

    for shape in structs():
        for name in shape.fields:
            if shape.model.__name__ != "Admin":  # not supported yet
                assert f'"{name}":' in text
