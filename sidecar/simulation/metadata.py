"""What the provider publishes of itself (RFC 8414), and where.

Says what the endpoints do, and nothing that they do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.simulation.assertions import SIGNATURES
from sidecar.simulation.registration import GRANTS, METHODS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.simulation.provider import Provider


def paths(issuer_path: str, forms: Iterable[str]) -> set[str]:
    """Where the document is: OpenID Connect appends to the issuer, RFC 8414 section 3.1 goes in before its path."""
    return {
        f"{issuer_path}/.well-known/{form}" if form == "openid-configuration" else f"/.well-known/{form}{issuer_path}"
        for form in forms
    }


def document(provider: Provider) -> dict[str, Any]:
    """The metadata document."""
    methods, algorithms = sorted(METHODS), [*SIGNATURES, "HS256", "HS384", "HS512"]
    published: dict[str, Any] = {
        "issuer": provider.issuer,
        **endpoints(provider.issuer),
        "authorization_endpoint": f"{provider.issuer}/authorize",
        "response_types_supported": ["code"],
        "grant_types_supported": sorted(GRANTS),
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "dpop_signing_alg_values_supported": ["ES256"],
    }
    if provider.scopes is not None:
        published["scopes_supported"] = sorted(provider.scopes)
    if provider.jwt is not None:
        published["jwks_uri"] = f"{provider.issuer}/jwks"
    if provider.mtls is not None:
        published["tls_client_certificate_bound_access_tokens"] = True
        published["mtls_endpoint_aliases"] = endpoints(provider.mtls_url)
    return published


def endpoints(base: str) -> dict[str, str]:
    """The endpoints that a client talks to by itself: those with a door for certificates too (RFC 8705 section 5)."""
    return {
        "token_endpoint": f"{base}/token",
        "revocation_endpoint": f"{base}/revoke",
        "device_authorization_endpoint": f"{base}/device_authorization",
    }
