"""Builds the token request of each grant from a complete configuration; presets and defaults are filled in before.

Decides the fields and the form in which they travel. Leaves the client's proof of identity to ``client_auth``, signed
statements to ``assertion``, and sending to ``endpoint``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from sidecar.errors import TokenRefused
from sidecar.oauth import dpop
from sidecar.oauth.assertion import bearer_assertion
from sidecar.oauth.client_auth import TokenRequest, proof
from sidecar.oauth.token import Expected

if TYPE_CHECKING:
    from sidecar.config.model import Credential, Dialect
    from sidecar.oauth.inputs import Inputs
    from sidecar.secrets import Secret

Fields = list[tuple[str, str]]
"""Names and values in order; a name may stand more than once (RFC 8707 section 2)."""

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"


def token_request(credential: Credential, inputs: Inputs) -> TokenRequest:
    """The request for a token of this credential.

    A grant that rests on a person's consent is, once that is given, a refresh (RFC 6749 section 6); how consent is come
    by is ``interactive``.

    Raises:
        TokenRefused: an input that is needed is not there or cannot be used.
    """
    match credential.grant:
        case "client_credentials":  # RFC 6749 section 4.4.2
            return of_fields([("grant_type", "client_credentials"), *asked(credential)], credential, inputs)
        case "refresh_token" | "authorization_code" | "device_code":
            return of_fields(_refresh(credential, inputs), credential, inputs)
        case "jwt_bearer":
            return of_fields(_jwt_bearer(credential, inputs), credential, inputs)
        case "token_exchange":
            return of_fields(_token_exchange(credential, inputs), credential, inputs)
        case "workload":
            return _workload(credential, inputs)
        case grant:
            raise TokenRefused(f"grant {grant} has no token endpoint")


def of_fields(fields: Fields, credential: Credential, inputs: Inputs) -> TokenRequest:
    """A request with these fields to the token endpoint, the client's proof of identity in it.

    Raises:
        TokenRefused: the proof cannot be made.
    """
    client = proof(credential, inputs)
    headers = {**credential.dialect.headers, **client.headers, **_dpop(credential, inputs)}
    return _encoded(inputs.token_url, [*fields, *client.fields], headers, credential.dialect)


def impersonation_request(credential: Credential, first: Secret) -> TokenRequest:
    """The second request, where the first token is only good for asking for another one.

    https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
    """
    body = json.dumps({"scope": list(credential.scopes), "lifetime": "3600s"}).encode()
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    headers["Authorization"] = f"Bearer {first.reveal()}"
    return TokenRequest(credential.impersonation_url or "", headers, body)


def impersonation_expected(credential: Credential) -> Expected:
    """What its answer has to hold: ``accessToken`` and ``expireTime``."""
    errors = {"permission_denied": "unauthorized_client", "not_found": "refused", **credential.dialect.errors}
    return Expected(
        default_ttl=credential.default_ttl,
        scopes=credential.scopes,
        required_scopes=credential.required_scopes,
        degraded=credential.on_scope_missing == "degraded",
        token_field="accessToken",  # noqa: S106 - a name
        errors=errors,
    )


def expected(credential: Credential) -> Expected:
    """What the answer has to hold. What a second request is made with is not what scopes are required of."""
    dialect = credential.dialect
    return Expected(
        default_ttl=credential.default_ttl,
        scopes=credential.scopes,
        required_scopes=() if credential.impersonation_url else credential.required_scopes,
        degraded=credential.on_scope_missing == "degraded",
        issuer=credential.token_issuer,
        dpop=credential.dpop,
        token_field=dialect.token_field,
        token_types=dialect.token_types,
        scope_separator=dialect.scope_separator,
        errors=dialect.errors,
    )


# --- the fields of each grant ----------------------------------------------------------------------------------------


def _refresh(credential: Credential, inputs: Inputs) -> Fields:
    """RFC 6749 section 6. ``redirect_uri`` belongs to no refresh, but GitLab wants it; others ignore it."""
    sent = credential.dialect.refresh_with
    fields = [("grant_type", "refresh_token"), ("refresh_token", _needed(inputs.refresh_token, "refresh token"))]
    if credential.redirect_uri is not None and (credential.grant == "refresh_token" or "redirect_uri" in sent):
        fields.append(("redirect_uri", credential.redirect_uri))
    return fields + asked(credential, with_scope="scope" in sent, with_audience="audience" in sent)


def _jwt_bearer(credential: Credential, inputs: Inputs) -> Fields:
    """RFC 7523 section 2.1."""
    in_assertion = credential.dialect.scope_in == "assertion"
    audience = credential.assertion_audience or inputs.token_url
    scope = scope_of(credential) if in_assertion and credential.scopes else None
    own = credential.dialect.own_subject
    statement = bearer_assertion(credential, inputs, audience=audience, scope=scope, own_subject=own)
    fields = [("grant_type", JWT_BEARER), ("assertion", statement)]
    return fields + asked(credential, with_scope=not in_assertion)


def _token_exchange(credential: Credential, inputs: Inputs) -> Fields:
    """RFC 8693 section 2.1."""
    fields = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", _needed(inputs.subject_token, "subject_token")),
        ("subject_token_type", credential.subject_token_type),
    ]
    if inputs.actor_token is not None:
        fields += [("actor_token", inputs.actor_token.reveal()), ("actor_token_type", credential.actor_token_type)]
    return fields + asked(credential)


def _workload(credential: Credential, inputs: Inputs) -> TokenRequest:
    """A platform's own token service: no grant, only a place to ask, and what proves that one may."""
    headers = {**credential.dialect.headers, **_dpop(credential, inputs)}
    fields = asked(credential)
    if credential.private_key is not None:
        statement = bearer_assertion(credential, inputs, audience=credential.assertion_audience, own_subject=False)
        headers["Authorization"] = f"Bearer {statement}"
    elif inputs.subject_token is not None:
        name = credential.dialect.subject_field
        value = inputs.subject_token.reveal()
        headers[name] = f"Bearer {value}" if name.lower() == "authorization" else value
    if credential.private_key is None and credential.client_id is not None:
        fields.append(("client_id", credential.client_id))  # which of several identities, where it signs nothing
    return _encoded(inputs.token_url, fields, headers, credential.dialect)


def asked(credential: Credential, *, with_scope: bool = True, with_audience: bool = True) -> Fields:
    """What is asked for besides a token: scopes, audience, and the fields of ``token_params``."""
    fields: Fields = []
    if credential.scopes and with_scope:
        fields.append(("scope", scope_of(credential)))
    if credential.audience is not None and with_audience:
        fields.append(("audience", credential.audience))
    for name, value in credential.token_params.items():
        if isinstance(value, str):
            fields.append((name, value))
        else:
            as_list = f"{name}[]" if credential.dialect.body == "json" else name
            fields += [(as_list, one) for one in value]
    return fields


def scope_of(credential: Credential) -> str:
    dialect = credential.dialect
    first = dialect.first_scopes if credential.impersonation_url else ()
    return ("," if dialect.scope_separator == "comma" else " ").join(first or credential.scopes)


def _needed(value: Secret | None, name: str) -> str:
    if value is None:
        raise TokenRefused(f"there is no {name}")
    return value.reveal()


def _dpop(credential: Credential, inputs: Inputs) -> dict[str, str]:
    """The proof that the token is to be bound by (RFC 9449 section 5)."""
    if not credential.dpop or inputs.dpop is None:
        return {}
    method = credential.dialect.method
    made = dpop.proof(inputs.dpop, method=method, url=inputs.token_url, wall=inputs.wall, nonce=inputs.dpop_nonce)
    return {"DPoP": made}


# --- the forms in which they travel ----------------------------------------------------------------------------------


def _encoded(url: str, fields: Fields, headers: dict[str, str], dialect: Dialect) -> TokenRequest:
    headers = {"Accept": "application/json", **headers}
    if dialect.method == "GET":
        query = urlencode(fields)
        separator = "&" if "?" in url else "?"
        return TokenRequest(f"{url}{separator}{query}" if query else url, headers, b"", "GET")
    if dialect.body == "json":
        return TokenRequest(url, {"Content-Type": "application/json", **headers}, _json(fields, dialect.integers))
    # Not by Authlib's prepare_token_request, which drops empty values and fails on lists.
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    return TokenRequest(url, headers, urlencode(fields).encode())


def _json(fields: Fields, integers: tuple[str, ...]) -> bytes:
    """An object of the fields: ``a.b`` is a field within a field, and ``a[]`` one element of a list."""
    root: dict[str, Any] = {}
    for name, text in fields:
        path = name.removesuffix("[]")
        value: Any = int(text) if path in integers and text.isascii() and text.isdigit() else text
        *outer, last = path.split(".")
        place = root
        for part in outer:
            inner = place.setdefault(part, {})
            place = inner if isinstance(inner, dict) else place
        if name.endswith("[]"):
            place.setdefault(last, []).append(value)
        else:
            place[last] = value
    return json.dumps(root).encode()
