"""What a preset is: keys of a credential that a provider's documentation fixes, with places left for the user's values.

``{name}`` in a value stands for one of the preset's parameters. Which of them are needed depends on what the file says
itself; that is for ``completion``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sidecar.secrets import SecretReference

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST: Final = r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?"
"""A host, with a port where it is not the usual one."""
HOST_AND_PATH: Final = HOST + r"(?:/[A-Za-z0-9._~-]+)*"
URL: Final = r"https?://[A-Za-z0-9._~:/?&=%\[\]-]+"
RESOURCE: Final = r"[A-Za-z0-9][A-Za-z0-9._~:/-]*"
"""A URI or an id that names an API."""
FILE: Final = r"/[^\x00-\x1f\x7f]+"

_PLACE: Final = re.compile(r"\{([a-z_]+)\}")


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
        keys: keys of a credential; the values are as the model has them, structs as mappings.
        params: what is filled into the values.
        yours: the keys that are left to the user and have to be there, each with a value as it stands in the file.
        note: what a user should know of it, as sentences for the documentation.
    """

    name: str
    title: str
    page: str
    keys: Mapping[str, Any]
    params: Mapping[str, Param] = field(default_factory=dict)
    yours: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def params_in(value: Any) -> set[str]:
    """Names of the parameters in a value."""
    match value:
        case str():
            return set(_PLACE.findall(value))
        case tuple():
            return {name for element in value for name in params_in(element)}
        case dict():
            return {name for element in value.values() for name in params_in(element)}
        case SecretReference():
            return params_in(value.name)
    return set()


def filled(value: Any, values: Mapping[str, str]) -> Any:
    """A value with its parameters in it."""
    match value:
        case str():
            return _PLACE.sub(lambda found: values[found[1]], value)
        case tuple():
            return tuple(filled(element, values) for element in value)
        case dict():
            return {key: filled(element, values) for key, element in value.items()}
        case SecretReference():
            return replace(value, name=filled(value.name, values))
    return value


def filled_in(preset: Preset, values: Mapping[str, str]) -> dict[str, Any]:
    """The preset's keys with its parameters in them."""
    return {key: filled(value, values) for key, value in preset.keys.items()}
