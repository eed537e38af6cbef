"""What a client beside the sidecar is told by its environment: which hosts it calls without the proxy, whom it trusts.

Decides the entries of NO_PROXY and the variables by which clients are given a CA. Leaves to ``exec`` and ``env`` who
gets them, and in which form.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.config.model import Configuration

BESIDE: Final = ("localhost", "127.0.0.1", "::1", "169.254.169.254", ".svc", ".cluster.local")
"""Loopback, the metadata service of clouds, and the names of a Kubernetes cluster."""
BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE")
"""Take the place of the CAs that a client would trust otherwise: OpenSSL and Go, Python's requests, curl, git, AWS."""
ADDED: Final = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
"""Name CAs that are trusted as well."""


def no_proxy(configuration: Configuration, environment: Mapping[str, str]) -> str:
    """What is called without the proxy: what stands there already, and what no proxy should see; never a route's host,
    because a request that goes round the sidecar has no token."""
    inherited = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    cluster = environment.get("KUBERNETES_SERVICE_HOST", "")
    wanted = [entry.strip() for entry in (*inherited.split(","), *BESIDE, cluster)]
    routed = [route.host for route in configuration.routes]
    return ",".join(dict.fromkeys(entry for entry in wanted if entry and not _covers_any(entry, routed)))


def _covers_any(entry: str, patterns: Iterable[str]) -> bool:
    return any(_covers(entry.lower(), pattern) for pattern in patterns)


def _covers(entry: str, pattern: str) -> bool:
    """Whether any client may take a host of the pattern for one that the entry names; the readings of NO_PROXY differ,
    so the widest counts: a name stands for everything below it, with or without a dot or a star before it."""
    host = pattern.removeprefix("*.")
    if _is_in_network(host, entry):
        return True
    name = entry if entry.count(":") > 1 else entry.partition(":")[0]
    name = name.strip("[]").lstrip("*").lstrip(".")
    if not name or host == name or host.endswith(f".{name}"):
        return True  # nothing is left of "*", which is everything
    return pattern.startswith("*.") and name.endswith(f".{host}")


def _is_in_network(host: str, entry: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
