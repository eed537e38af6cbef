"""The tables and examples of the provider presets, from the presets themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from sidecar.config.presets import FAMILIES, PRESETS
from sidecar.config.scalars import Plain, plain_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sidecar.config.presets import Preset

_BY_GRANT: Final = {"exec": "that of the command", "static": "", "jwt_bearer": "signed assertion"}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def families() -> str:
    """What there is, in short: one line a family."""
    rows = [(title, " ".join(f"`{row.name}`" for row in rows)) for title, rows in FAMILIES.items()]
    return table(["provider", "presets"], rows)


def presets() -> str:
    """Every preset with what it does and what it leaves to the user."""
    rows = [
        (
            f"[`{row.name}`](#{row.name})",
            row.title,
            f"`{row.keys['grant']}`",
            _authentication(row),
            " ".join(_yours(row)),
            f"[page]({row.page})",
        )
        for row in PRESETS.values()
    ]
    return table(["preset", "provider", "grant", "authentication", "what you write", "documentation"], rows)


def _authentication(row: Preset) -> str:
    grant = row.keys["grant"]
    if (method := row.keys.get("client_auth")) is not None:
        return f"`{method}`"
    if "private_key" in row.yours:
        return "signed assertion"
    if grant in ("token_exchange", "workload"):
        given = "subject_token" in row.yours or "subject_token" in row.keys
        return "token of the platform" if given else "that of the machine"
    return _BY_GRANT.get(grant, "`none`, or by `client_secret`")


def _yours(row: Preset) -> list[str]:
    params = [
        f"`{name}`{f' (`${param.env}`)' if param.env else ''}"
        for name, param in row.params.items()
        if param.default is None
    ]
    return [*params, *(f"`{key}`" for key in row.yours)]


def sections() -> str:
    """Of each preset an example that loads, what may be chosen, and what to know."""
    return "\n\n".join(_section(row) for row in PRESETS.values())


def _section(row: Preset) -> str:
    params = [
        f"- `{name}`: {param.meaning}{_otherwise(param.default, param.env)}" for name, param in row.params.items()
    ]
    parts = [f"### {row.name}", f"{row.title}. {row.note}".strip(), f"```yaml\n{example(row)}```", "\n".join(params)]
    return "\n\n".join(part for part in parts if part)


def _otherwise(default: str | None, env: str | None) -> str:
    found = [*([f"`${env}`"] if env else []), *([f"`{default}`"] if default else [])]
    return f"; by default {', else '.join(found)}" if found else ""


def example(row: Preset) -> str:
    """The shortest credential by this preset."""
    wanted = {name: param.example for name, param in row.params.items() if param.default is None and param.env is None}
    params = ", ".join(f"{name}: {_written(value)}" for name, value in wanted.items())
    lines = [
        f"provider: {row.name}",
        *([f"provider_params: {{{params}}}"] if params else []),
        *(f"{key}: {value}" for key, value in row.yours.items()),
    ]
    return "credentials:\n  api:\n" + "".join(f"    {line}\n" for line in lines)


def _written(value: str) -> str:
    return value if plain_kind(value) is Plain.TEXT else json.dumps(value)
