"""What a client beside the sidecar is told by its environment: the way to it, whom to call without it, whom to trust.

Decides the entries of NO_PROXY, the names of variables, and, in one table, what each language's client reads and where
it deceives. Leaves to ``exec`` and ``env`` who gets them, and in which form.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
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


def listener_variable(name: str) -> str:
    """The beginning of the variables that lead to a reverse listener."""
    return f"TOKEN_SIDECAR_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}"


def as_java_patterns(entries: str) -> str:
    """Entries of NO_PROXY as ``http.nonProxyHosts`` writes them: joined by bars, with a star for what is below a name;
    networks cannot be said there."""
    found: list[str] = []
    for entry in entries.split(","):
        name = entry.lstrip("*").lstrip(".")
        if "/" in name or not name:
            continue
        if ":" in name:
            found.append(f"[{name}]")
        elif name[-1].isdigit() or name == "localhost":
            found.append(name)
        else:
            found += [f"*.{name}"] if entry.startswith((".", "*")) else [name, f"*.{name}"]
    return "|".join(found)


# --- the clients -----------------------------------------------------------------------------------------------------

LOWER, UPPER = ("http_proxy", "no_proxy"), ("HTTP_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Client:
    """What one client reads, and what surprises with it.

    Args:
        title: what it is.
        reads: which variables, and which spelling of them counts.
        no_proxy: how it reads the entries of NO_PROXY.
        trap: the one thing that people lose an hour with.
        variables: the proxy and its exceptions, in the spelling that counts.
        more: what it needs beside these, with the value.
        trust: the variable that names the CA of interception; empty where there is none.
        trust_note: what that does to the CAs it trusts otherwise, or what to do where there is no such variable.
    """

    title: str
    reads: str
    no_proxy: str
    trap: str
    variables: tuple[str, str] = LOWER
    more: Mapping[str, str] = field(default_factory=dict)
    trust: str = ""
    trust_note: str = ""


_SUFFIX: Final = "a name covers what is below it, too"
_REPLACES: Final = "in place of all other CAs: put them into one file"

CLIENTS: Final[Mapping[str, Client]] = {
    "curl": Client(
        title="curl, and what is built on libcurl",
        reads="`http_proxy` in lower case alone, the others in both",
        no_proxy=f"{_SUFFIX}; networks (10.0.0.0/8) from 7.86",
        trap="`HTTP_PROXY` in capitals is not read, so that no CGI program can be told a proxy by a request's field",
        trust="CURL_CA_BUNDLE",
        trust_note=_REPLACES,
    ),
    "python-requests": Client(
        title="Python requests",
        reads="both spellings, the lower case first",
        no_proxy=f"{_SUFFIX}; IPv4 networks, too",
        trap="`SSL_CERT_FILE` is not read; a session with `trust_env = False` reads none of these, and `~/.netrc` adds "
        "an Authorization of its own",
        trust="REQUESTS_CA_BUNDLE",
        trust_note=_REPLACES,
    ),
    "python-httpx": Client(
        title="Python HTTPX",
        reads="both spellings, the lower case first",
        no_proxy=f"{_SUFFIX}; no networks",
        trap="a client with `transport=` or `trust_env=False` reads none of these",
        trust="SSL_CERT_FILE",
        trust_note=_REPLACES,
    ),
    "aiohttp": Client(
        title="Python aiohttp",
        reads="both spellings, the lower case first, and none of them by default",
        no_proxy=f"{_SUFFIX}; no networks",
        trap="it reads nothing of this without `aiohttp.ClientSession(trust_env=True)`",
        trust="SSL_CERT_FILE",
        trust_note=_REPLACES,
    ),
    "node": Client(
        title="Node.js: fetch, http and https, and what is built on them",
        reads="both spellings, the lower case first, and only with `NODE_USE_ENV_PROXY=1`",
        no_proxy="`.svc` and `*.svc` cover what is below, a bare name does not; no networks",
        trap="before 22.21 and 24.5 Node ignores all of these: take the base URL, or undici's EnvHttpProxyAgent",
        more={"NODE_USE_ENV_PROXY": "1"},
        trust="NODE_EXTRA_CA_CERTS",
        trust_note="beside all other CAs",
    ),
    "java": Client(
        title="Java: HttpURLConnection and java.net.http.HttpClient",
        reads="no variables: system properties, here in `JAVA_TOOL_OPTIONS`, which every JVM of the environment reads",
        no_proxy="`http.nonProxyHosts`: joined by bars, a star at an end; no networks",
        trap="no property holds a proxy's password: a listener with one needs an Authenticator in the program, or take "
        "the base URL; Apache HttpClient wants `useSystemProperties()`, OkHttp and Netty their own settings",
        trust_note="no variable: `keytool -importcert -file CA -keystore trust.p12`, then `-Djavax.net.ssl.trustStore`",
    ),
    "go": Client(
        title="Go net/http",
        reads="both spellings, the capitals first; `HTTP_PROXY` not where `REQUEST_METHOD` is set (CGI)",
        no_proxy=f"{_SUFFIX}; networks, too",
        trap="localhost and 127.0.0.1 never go through a proxy, and a Transport of your own needs "
        "`Proxy: http.ProxyFromEnvironment`",
        variables=UPPER,
        trust="SSL_CERT_FILE",
        trust_note=_REPLACES,
    ),
    "dotnet": Client(
        title=".NET HttpClient",
        reads="both spellings, the lower case first",
        no_proxy="`.svc` covers what is below, a bare name does not; no stars, no networks",
        trap="a handler with `UseProxy = false` or a `Proxy` of its own reads none of these",
        trust="SSL_CERT_FILE",
        trust_note=_REPLACES,
    ),
    "ruby": Client(
        title="Ruby Net::HTTP and what is built on it",
        reads="both spellings, the lower case first",
        no_proxy=f"{_SUFFIX}; networks, too",
        trap="what resolves to 127.0.0.1 or ::1 never goes through a proxy, and `Net::HTTP.new(host, port, nil)` reads "
        "none of these",
        trust="SSL_CERT_FILE",
        trust_note=_REPLACES,
    ),
    "rust-reqwest": Client(
        title="Rust reqwest",
        reads="both spellings; `HTTP_PROXY` not where `REQUEST_METHOD` is set (CGI)",
        no_proxy=f"{_SUFFIX}; networks, too",
        trap="a client built with `no_proxy()` reads none of these; with rustls' own roots it trusts no CA of a file",
        variables=UPPER,
        trust="SSL_CERT_FILE",
        trust_note=f"{_REPLACES}; only with native-tls or native roots",
    ),
    "php": Client(
        title="PHP: the curl extension, and Guzzle on it",
        reads="`http_proxy` in lower case (curl); `HTTP_PROXY`, which Guzzle looks for on the command line",
        no_proxy=_SUFFIX,
        trap="`file_get_contents` reads none of these, and under FPM variables reach PHP only by the pool's `env[...]`",
        more={"HTTP_PROXY": "{proxy}"},
        trust_note="no variable: `curl.cainfo` and `openssl.cafile` in php.ini",
    ),
}
ALIASES: Final = {
    "python": "python-requests",
    "requests": "python-requests",
    "httpx": "python-httpx",
    "python-aiohttp": "aiohttp",
    "nodejs": "node",
    "javascript": "node",
    "typescript": "node",
    "fetch": "node",
    "undici": "node",
    "kotlin": "java",
    "scala": "java",
    "golang": "go",
    "csharp": "dotnet",
    "c#": "dotnet",
    ".net": "dotnet",
    "rust": "rust-reqwest",
    "reqwest": "rust-reqwest",
}
"""What people also call them."""
