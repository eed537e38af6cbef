"""A configuration for somebody else's eyes: every key that was written, with references in the place of secrets.

Decides which values are shown. What a key may hold that its owner calls a secret is masked even where the contract asks
for a reference: parameters of token requests, headers, claims, the arguments of a command, the query of an address.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sidecar.config.model import Bind, Configuration
from sidecar.secrets import Secret, SecretReference
from sidecar.telemetry.redaction import MASK

_VALUES_MASKED: Final = frozenset(("token_params", "provider_params", "assertion_claims", "headers"))
_QUERY_MASKED: Final = frozenset(
    (
        *("token_url", "issuer", "authorization_url", "device_authorization_url", "revocation_url"),
        *("impersonation_url", "redirect_uri", "upstream", "probe", "audience"),
    )
)


def shown(configuration: Configuration) -> dict[str, Any]:
    """What may be shown of it, in types that JSON has; keys at their default are left out."""
    return _struct(configuration)


def _struct(struct: msgspec.Struct) -> dict[str, Any]:
    return {
        field.name: _field(field.name, value)
        for field in msgspec.structs.fields(struct)
        if (value := getattr(struct, field.name)) != _default(field)
    }


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _field(name: str, value: object) -> Any:
    if name in _VALUES_MASKED and isinstance(value, dict):
        return dict.fromkeys(value, MASK)
    if name == "command" and isinstance(value, tuple) and value:
        return [value[0], *[MASK] * (len(value) - 1)]
    if name in _QUERY_MASKED and isinstance(value, str) and "?" in value:
        return f"{value.partition('?')[0]}?{MASK}"
    return _plain(value)


def _plain(value: object) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case SecretReference() | Bind():
            return str(value)
        case Secret():
            return MASK
        case msgspec.Struct():
            return _struct(value)
        case dict():
            return {str(name): _plain(each) for name, each in value.items()}
        case tuple() | list():
            return [_plain(each) for each in value]
        case _:
            return MASK
