"""A credential of the user's, pointed at a mock provider that knows it: same grant, same authentication, other places.

What the mock cannot be is said in a note, never passed over: certificates of clients, the token services of platforms,
commands. What decides the life of a token is kept: when it is refreshed, what is asked for, how the client proves
itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.config.model import CERTIFICATE_AUTHS, NEEDS_LOGIN, Credential, Dialect
from sidecar.simulation import registration
from sidecar.simulation.registration import FEDERATED, Client, Refreshing, Trusted

if TYPE_CHECKING:
    from sidecar.rehearsal.made_up import MadeUp
    from sidecar.secrets import SecretReference
    from sidecar.simulation.idp import MockIdP

PLATFORM: Final = "https://platform.rehearsal.test"
DAY: Final = 86400
_PLAIN_GRANT: Final = {
    "workload": "the platform's token service has no mock: rehearsed as client_credentials",
    "exec": "its command is not run: rehearsed as client_credentials",
}


@dataclass(slots=True)
class Rehearsed:
    """A credential as it is rehearsed, and what is different about it."""

    credential: Credential
    notes: list[str] = field(default_factory=list)


def endpoint_of(credential: Credential) -> tuple[str, ...]:
    """What credentials share a provider by: where they ask, and in which dialect."""
    place = credential.token_url or credential.issuer or credential.grant or ""
    return (place, credential.basic_encoding, credential.dialect.body)


def provider_settings(credential: Credential) -> dict[str, Any]:
    """What the mock has to be for this credential."""
    return {"basic_encoding": credential.basic_encoding, "body": credential.dialect.body}


def rehearsed(name: str, original: Credential, *, idp: MockIdP, made_up: MadeUp) -> Rehearsed:
    """The credential with its provider replaced by ``idp``, which is told of the client."""
    if original.grant == "static":
        kept = _replace(original, token_file=_path(made_up.file(f"static-{name}")), token=None)
        return Rehearsed(kept, ["grant static: its token is never renewed, and is good throughout"])
    result = Rehearsed(_pointed(original, idp))
    _settle_grant(result, name)
    _settle_authentication(result)
    _register(result, name, idp=idp, made_up=made_up)
    return result


def _replace(credential: Credential, **changes: Any) -> Credential:
    return msgspec.structs.replace(credential, **changes)


def _pointed(original: Credential, idp: MockIdP) -> Credential:
    dialect = original.dialect
    asked = set(original.scopes)
    return _replace(
        original,
        token_url=idp.token_url if original.token_url or not original.issuer else None,
        issuer=idp.issuer if original.issuer else None,
        authorization_url=None,
        device_authorization_url=None,
        revocation_url=None,
        impersonation_url=None,
        redirect_uri=None,
        ca_file=None,
        certificate=None,
        certificate_key=None,
        token_issuer=None,
        assertion_audience=None,
        assertion_file=None,
        assertion=None,
        token_params={},
        required_scopes=tuple(scope for scope in original.required_scopes if scope in asked),
        dialect=Dialect(body=dialect.body, rotation_grace=dialect.rotation_grace, unauthorized=dialect.unauthorized),
    )


def _settle_grant(result: Rehearsed, name: str) -> None:
    credential = result.credential
    if credential.grant in _PLAIN_GRANT:
        result.notes.append(f"grant {credential.grant}: {_PLAIN_GRANT[credential.grant]}")
        result.credential = _replace(
            Credential(grant="client_credentials", client_auth="client_secret_basic"),
            client_id=credential.client_id or name,
            token_url=credential.token_url,
            scopes=credential.scopes,
            audience=credential.audience,
            refresh=credential.refresh,
            stale_for=credential.stale_for,
            default_ttl=credential.default_ttl,
            required_for_ready=credential.required_for_ready,
            dialect=credential.dialect,
        )
    elif credential.grant in NEEDS_LOGIN:  # once consent is given, all of them are refreshes
        result.credential = _replace(credential, grant="refresh_token")


def _settle_authentication(result: Rehearsed) -> None:
    credential = result.credential
    if credential.client_auth in CERTIFICATE_AUTHS:
        result.notes.append(f"client_auth {credential.client_auth}: rehearsed as client_secret_basic")
        result.credential = _replace(credential, client_auth="client_secret_basic")
    elif credential.client_auth in ("none", None) and credential.grant == "client_credentials":
        result.credential = _replace(credential, client_auth="client_secret_basic")


def _register(result: Rehearsed, name: str, *, idp: MockIdP, made_up: MadeUp) -> None:
    """Make what the client proves itself with, and let the provider know it."""
    credential = result.credential
    client_id, auth = credential.client_id or name, credential.client_auth or "none"
    inputs: dict[str, Any] = {"client_secret": None, "private_key": None}
    client: dict[str, Any] = {"auth": frozenset({auth}), "refreshing": Refreshing(rotates=False)}
    if auth.startswith("client_secret"):
        inputs["client_secret"] = made_up.secret(idp, client_id)
    if auth == "private_key_jwt" or credential.grant == "jwt_bearer":
        inputs["private_key"], public = made_up.key(credential.assertion_algorithm)
        client["keys"] = (public,)
        idp.trusted.append(Trusted(issuer=client_id, keys=(public,)))
    if auth == FEDERATED:
        inputs["assertion"], platform_key = _statement(client_id, idp, made_up)
        client["federated"] = Trusted(issuer=PLATFORM, keys=(platform_key,))
    if auth == "none":
        idp.clientless |= {registration.JWT_BEARER, registration.TOKEN_EXCHANGE}
    _know(idp, client_id, Client(**client))
    if credential.grant == "token_exchange":
        inputs |= {key: _subject(idp, made_up) for key in ("subject_token", "actor_token") if getattr(credential, key)}
    if credential.grant == "refresh_token":
        seed = idp.login(client_id, scope=" ".join(credential.scopes))
        inputs["refresh_token"] = made_up.file(seed)
    result.credential = _replace(credential, **inputs)


def _know(idp: MockIdP, client_id: str, client: Client) -> None:
    """Several credentials may share a client."""
    known = idp.clients.get(client_id)
    if known is not None:
        client = Client(
            auth=known.auth | client.auth,
            keys=known.keys + client.keys,
            federated=client.federated or known.federated,
            refreshing=client.refreshing,
        )
    idp.register(client_id, client)


def _statement(client_id: str, idp: MockIdP, made_up: MadeUp) -> tuple[SecretReference, dict[str, Any]]:
    wall = int(idp.wall())
    claims = {"iss": PLATFORM, "sub": client_id, "aud": idp.token_url, "iat": wall - 60, "exp": wall + DAY}
    return made_up.statement(claims)


def _subject(idp: MockIdP, made_up: MadeUp) -> SecretReference:
    reference = made_up.file(f"subject-{len(idp.subject_tokens) + 1}")
    idp.subject_tokens.add(reference.read().reveal())
    return reference


def _path(reference: SecretReference) -> str:
    return reference.name
