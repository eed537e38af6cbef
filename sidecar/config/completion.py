"""Makes credentials complete: what a preset says and what follows from other keys is filled in before anybody looks.

A key that stands in the file wins over the preset's, a field of ``dialect`` and of ``token_params`` likewise. After
this no code asks for the provider: grants and client authentication see credentials in which everything is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.config.model import Credential
from sidecar.config.problems import did_you_mean, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.config.found import Found, Path
    from sidecar.config.model import Configuration
    from sidecar.config.presets import Preset

INSTEAD: Final = {
    "assertion_file": "assertion",
    "assertion": "assertion_file",
    "token_file": "token",
    "token": "token_file",
}
"""Keys of which a credential has one: the file's takes the place of the preset's."""


_ELSEWHERE: Final = "; docs/providers.md lists those that have, and any other is written with grant and token_url"


def complete(configuration: Configuration | None, found: Found, environment: Mapping[str, str]) -> Configuration | None:
    """The configuration with complete credentials; errors are noted in ``found``, whose structs are replaced, too."""
    completed: dict[str, Credential] = {}
    for path, credential in list(found.each(Credential)):
        completed[str(path[-1])] = found.built[path] = _completed(found, path, credential, environment)
    if configuration is None:
        return None
    credentials = {name: completed[name] for name in configuration.credentials}
    return msgspec.structs.replace(configuration, credentials=credentials)


def _completed(found: Found, path: Path, credential: Credential, environment: Mapping[str, str]) -> Credential:
    if credential.provider is not None:
        from sidecar.config.presets import PRESETS  # a dozen files of providers, for those who have one of them

        preset = PRESETS.get(credential.provider)
        if preset is None:
            near = did_you_mean(nearest(credential.provider, PRESETS))
            found.fail((*path, "provider"), f"'provider': this provider has no preset{near or _ELSEWHERE}")
            return credential
        credential = _with_preset(found, path, credential, preset, environment)
    elif credential.provider_params:
        found.note((*path, "provider_params"), "'provider_params' needs a 'provider'", at_key=True)
    if credential.client_auth is None and credential.grant is not None:
        has_secret = credential.client_secret is not None or credential.grant == "client_credentials"
        credential = msgspec.structs.replace(credential, client_auth="client_secret_basic" if has_secret else "none")
    return credential


def _with_preset(
    found: Found, path: Path, credential: Credential, preset: Preset, environment: Mapping[str, str]
) -> Credential:
    from sidecar.config import presets

    left = _left_to(preset, found, path)
    values = _params(found, path, credential, preset, presets.params_in(left), environment)
    if values is None:
        found.mark_broken(path)
        return credential
    changes: dict[str, Any] = {}
    for key, value in presets.filled(left, values).items():
        changes[key] = _merged(getattr(credential, key), value) if isinstance(value, dict) else value
        found.supplied.add((*path, key))
    return msgspec.structs.replace(credential, **changes)


def _left_to(preset: Preset, found: Found, path: Path) -> dict[str, Any]:
    """What the preset says and the file does not, be it in so many words or by a key that stands for another."""
    left: dict[str, Any] = {}
    for key, value in preset.keys.items():
        place = (*path, key)
        if isinstance(value, dict):
            left[key] = {name: one for name, one in value.items() if not found.given((*place, name))}
        elif not found.given(place) and not found.given((*path, INSTEAD.get(key, key))):
            left[key] = value
    return left


def _merged(written: Any, preset: dict[str, Any]) -> Any:
    """A struct or a mapping with what the preset adds to it."""
    return {**preset, **written} if isinstance(written, dict) else msgspec.structs.replace(written, **preset)


def _params(
    found: Found,
    path: Path,
    credential: Credential,
    preset: Preset,
    wanted: set[str],
    environment: Mapping[str, str],
) -> dict[str, str] | None:
    """The value of each parameter that is wanted or written; None if there is an error, which is noted."""
    place = (*path, "provider_params")
    sound = found.is_sound(place)
    for name in credential.provider_params:
        if name not in preset.params:
            near = did_you_mean(nearest(name, preset.params))
            known = f": it has {listed(preset.params)}" if preset.params else ": it has none"
            found.note((*place, name), f"provider {preset.name} has no such parameter{known}{near}", at_key=True)
            sound = False
    values: dict[str, str] = {}
    for name, param in preset.params.items():
        if name not in wanted and name not in credential.provider_params:
            continue
        value = credential.provider_params.get(name) or environment.get(param.env or "") or param.default
        if value is None:
            by = f", or ${param.env} in the environment" if param.env else ""
            message = f"provider {preset.name} needs 'provider_params.{name}'{by}: {param.meaning}"
            found.note(place, message, at_key=True)
            sound = False
        elif not param.fits(value):
            found.note((*place, name), f"'{name}': {param.meaning} is wanted here, such as {param.example}")
            sound = False
        else:
            values[name] = value
    return values if sound else None
