"""The provider table: for each provider the keys that its documentation fixes, so that a user writes three or four.

A preset is data. It names keys of a credential and their values; ``{name}`` in a value stands for one of the preset's
parameters. Adding a provider is adding a row here and a test of it against a fake that answers as its page says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Param:
    """A part of a preset that the user chooses.

    Args:
        meaning: what it is, in words that go on after "it wants".
        example: a value, for documentation.
        pattern: what values look like as a whole; by default a part of a host name or path, so that no value leads to
            another host.
        default: where the user says nothing.
        env: an environment variable that holds it, as platforms set them.
    """

    meaning: str
    example: str
    pattern: str = r"[A-Za-z0-9._~-]+"
    default: str | None = None
    env: str | None = None

    def fits(self, value: str) -> bool:
        """Whether a value is of this form."""
        return re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True, slots=True)
class Preset:
    """A way in which a provider hands out tokens.

    Args:
        name: what ``provider`` says.
        title: for people.
        page: the provider's documentation of this flow.
        keys: keys of a credential; the values are as the model has them, ``dialect`` as a mapping.
        params: what is filled into the values.
        yours: the keys that are left to the user, for documentation and ``init``.
    """

    name: str
    title: str
    page: str
    keys: Mapping[str, Any]
    params: Mapping[str, Param] = field(default_factory=dict)
    yours: tuple[str, ...] = ()


def filled_in(preset: Preset, values: Mapping[str, str]) -> dict[str, Any]:
    """The preset's keys with its parameters in them."""
    return {key: _filled(value, values) for key, value in preset.keys.items()}


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case str():
            return re.sub(r"\{([a-z_]+)\}", lambda found: values[found[1]], value)
        case tuple():
            return tuple(_filled(element, values) for element in value)
        case dict():
            return {key: _filled(element, values) for key, element in value.items()}
    return value


_ROWS: Final = (
    Preset(
        name="entra_id",
        title="Microsoft Entra ID, client secret",
        page="https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow",
        keys={
            "grant": "client_credentials",
            "token_url": "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
            "client_auth": "client_secret_post",
        },
        params={"tenant": Param("the directory's id or domain", "contoso.onmicrosoft.com")},
        yours=("client_id", "client_secret", "scopes"),
    ),
)

PRESETS: Final[Mapping[str, Preset]] = {row.name: row for row in _ROWS}
