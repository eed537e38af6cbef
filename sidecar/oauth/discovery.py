"""Finds a token endpoint by its issuer: where the metadata stands, and whether it may be believed.

RFC 8414 section 3.1 puts the well-known part between host and path, OpenID Connect Discovery section 4 behind the
path; most IdPs have only the second, so that is asked first. The document must name exactly the issuer it was asked
for (RFC 8414 section 3.3): otherwise one tenant of an IdP could pass for another.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sidecar.errors import TokenMalformed
from sidecar.oauth.answer import json_object, passing_status, retry_hint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.oauth.answer import Answer

OIDC: Final = "/.well-known/openid-configuration"
RFC8414: Final = "/.well-known/oauth-authorization-server"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What an authorization server says of itself (RFC 8414 section 2); every address in it is https.

    Args:
        endpoints: by the name of the field, those that are there and may be used.
        mtls: the same for clients that authenticate with a certificate (RFC 8705 section 5).
        iss_parameter: it names itself in every authorization response (RFC 9207 section 3).
    """

    issuer: str
    endpoints: Mapping[str, str] = field(default_factory=dict)
    mtls: Mapping[str, str] = field(default_factory=dict)
    iss_parameter: bool = False

    def endpoint(self, name: str, *, mtls: bool = False) -> str:
        """The address of an endpoint.

        Raises:
            TokenMalformed: the document names none that may be used.
        """
        url = (self.mtls.get(name) if mtls else None) or self.endpoints.get(name)
        if url is None:
            raise TokenMalformed(f"the metadata names no {name} that is https")
        return url


ENDPOINTS: Final = (
    *("token_endpoint", "authorization_endpoint", "device_authorization_endpoint", "revocation_endpoint"),
)


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """The addresses at which an issuer's metadata may stand, the likelier first."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    origin = f"{parts.scheme}://{parts.netloc}"
    return f"{origin}{path}{OIDC}", f"{origin}{RFC8414}{path}"


def metadata(answer: Answer, issuer: str) -> Metadata:
    """The metadata in an answer; there is at least a ``token_endpoint`` in it.

    Raises:
        TokenMalformed: there is no document, or it must not be used.
        TokenRequestError: a transient leaf, if the status says that asking elsewhere is no use either.
    """
    if (kind := passing_status(answer.status)) is not None:
        raise kind(
            f"the issuer's metadata: HTTP {answer.status}",
            retry_after_seconds=retry_hint(answer),
            http_status=answer.status,
        )
    fields = json_object(answer.body) if answer.status == 200 else None
    if fields is None:
        raise TokenMalformed(f"the issuer's metadata: HTTP {answer.status}, no document", http_status=answer.status)
    if fields.get("issuer") != issuer:
        raise TokenMalformed("the metadata names another issuer than the configured one", http_status=answer.status)
    aliases = fields.get("mtls_endpoint_aliases")
    found = Metadata(
        issuer,
        endpoints=_endpoints(fields, issuer),
        mtls=_endpoints(aliases, issuer) if isinstance(aliases, dict) else {},
        iss_parameter=fields.get("authorization_response_iss_parameter_supported") is True,
    )
    found.endpoint("token_endpoint")
    return found


def _endpoints(fields: Mapping[str, object], issuer: str) -> dict[str, str]:
    named = {name: fields.get(name) for name in ENDPOINTS}
    return {name: url for name, url in named.items() if isinstance(url, str) and may_get_secrets(url, issuer)}


def may_get_secrets(url: str, issuer: str) -> bool:
    """https; or loopback http, if the issuer itself is that: an outside document never points into this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if not host or parts.fragment or "@" in parts.netloc or len(url) > 2048 or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host) and issuer.startswith("http:"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
