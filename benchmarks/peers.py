"""How each proxy is set up for the same job: take plain HTTP/1.1 on loopback, put the token on, reach the origin.

All get one process and one worker thread, kept upstream connections without limits that would close them during a run,
verified upstream TLS, access log off, and otherwise what their manuals give as the ordinary way. Envoy and the sidecar
fetch the token themselves (client credentials); HAProxy and nginx have no such thing and get it as a static header,
which makes them the floor, not rivals.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.load import Address
from benchmarks.processes import Program, free_ports
from benchmarks.scenarios import Upstream
from benchmarks.workshop import HOSTS, Workshop

if TYPE_CHECKING:
    from collections.abc import Callable

ENVOY_BINARY: Final = Path(__file__).parent / ".peers" / "envoy" / "_bin" / "envoy"
SIDECAR: Final = "sidecar"
SIDECAR_FORWARD: Final = "sidecar (forward)"
ENVOY: Final = "envoy"


@dataclass(frozen=True, slots=True)
class Peer:
    """One proxy, ready to be started.

    Attributes:
        rows: what it is measured as: a row's name to its address for each transport.
    """

    program: Program
    version: str
    rows: dict[str, dict[Upstream, Address]]

    @property
    def name(self) -> str:
        return self.program.name


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return (done.stdout + done.stderr).strip()


def _addresses(plain: int, tls: int) -> dict[Upstream, Address]:
    ports = {Upstream.PLAIN: plain, Upstream.TLS: tls}
    return {upstream: Address(port, f"127.0.0.1:{port}") for upstream, port in ports.items()}


# --- the sidecar ----------------------------------------------------------------------------------------------------


def _sidecar_route(workshop: Workshop, upstream: Upstream) -> dict[str, Any]:
    tls = upstream is Upstream.TLS
    return {
        "name": upstream.value,
        "host": HOSTS[upstream],
        "port": workshop.origin[upstream],
        "credential": upstream.value,
        "upstream_tls": "required" if tls else "plain",
        **({"ca_file": str(workshop.ca)} if tls else {}),
    }


def _sidecar_credential(workshop: Workshop, client_id: str) -> dict[str, Any]:
    return {
        "grant": "client_credentials",
        "token_url": workshop.token_url,
        "client_id": client_id,
        "client_secret": f"file:{workshop.folder / 'client-secret'}",
    }


def sidecar(workshop: Workshop) -> Peer:
    """Two credentials, reverse and forward listeners, metrics on, access log off."""
    plain, tls, forward, telemetry = free_ports(4)
    configuration = sidecar_configuration(workshop, {Upstream.PLAIN: plain, Upstream.TLS: tls}, forward, telemetry)
    workshop.write("client-secret", workshop.client_secret)
    path = workshop.write("sidecar.yaml", json.dumps(configuration))  # JSON is YAML
    command = [sys.executable, "-m", "sidecar", "run", "-c", str(path)]
    rows = {SIDECAR: _addresses(plain, tls), SIDECAR_FORWARD: _absolute_form(workshop, forward)}
    ports = (plain, tls, forward, telemetry)
    return Peer(Program(SIDECAR, command, workshop.folder, ports), sidecar_version(), rows)


def sidecar_version() -> str:
    """Name and version, as figures are labelled with."""
    return f"Token Sidecar {_output(sys.executable, '-c', 'import sidecar; print(sidecar.__version__)')}"


def sidecar_configuration(
    workshop: Workshop, reverse_ports: dict[Upstream, int], forward_port: int, telemetry_port: int
) -> dict[str, Any]:
    """A route, a credential and a reverse listener for each transport, and a forward listener for both."""
    schemes = {Upstream.PLAIN: "http", Upstream.TLS: "https"}
    reverse = [
        {
            "name": upstream.value,
            "mode": "reverse",
            "bind": f"127.0.0.1:{reverse_ports[upstream]}",
            "upstream": f"{scheme}://{HOSTS[upstream]}:{workshop.origin[upstream]}",
        }
        for upstream, scheme in schemes.items()
    ]
    forward = {"name": "egress", "mode": "forward", "bind": f"127.0.0.1:{forward_port}"}
    return {
        "listeners": [*reverse, forward],
        "telemetry": {"bind": f"127.0.0.1:{telemetry_port}"},
        "credentials": {upstream.value: _sidecar_credential(workshop, upstream.value) for upstream in Upstream},
        "routes": [_sidecar_route(workshop, upstream) for upstream in Upstream],
        "log": {"level": "info", "access": False},
    }


def _absolute_form(workshop: Workshop, port: int) -> dict[Upstream, Address]:
    """What an app with HTTP_PROXY sends, RFC 9112 section 3.2.2."""
    authorities = {upstream: f"{HOSTS[upstream]}:{workshop.origin[upstream]}" for upstream in Upstream}
    return {upstream: Address(port, name, f"http://{name}") for upstream, name in authorities.items()}


# --- Envoy ----------------------------------------------------------------------------------------------------------

_TYPES: Final = "type.googleapis.com/envoy.extensions"


def _typed(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.{kind}", **fields}}


def _endpoint(port: int) -> dict[str, Any]:
    return {"endpoint": {"address": _socket(port)}}


def _socket(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_cluster(name: str, port: int, **more: Any) -> dict[str, Any]:
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [_endpoint(port)]}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment, **more}


def _envoy_tls(workshop: Workshop) -> dict[str, Any]:
    host = HOSTS[Upstream.TLS]
    names = [{"san_type": "DNS", "matcher": {"exact": host}}]
    validation = {"trusted_ca": {"filename": str(workshop.ca)}, "match_typed_subject_alt_names": names}
    kind = "transport_sockets.tls.v3.UpstreamTlsContext"
    context = {"validation_context": validation}
    return _typed("envoy.transport_sockets.tls", kind, sni=host, common_tls_context=context)


def _envoy_injector(workshop: Workshop, client_id: str) -> dict[str, Any]:
    oauth2 = _typed(
        "envoy.http.injected_credentials.oauth2",
        "http.injected_credentials.oauth2.v3.OAuth2",
        token_endpoint={"cluster": "idp", "uri": workshop.token_url, "timeout": "5s"},
        client_credentials={"client_id": client_id, "client_secret": {"name": "client-secret"}},
    )
    kind = "filters.http.credential_injector.v3.CredentialInjector"
    return _typed("envoy.filters.http.credential_injector", kind, overwrite=True, credential=oauth2)


def _envoy_listener(workshop: Workshop, upstream: Upstream, port: int) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": upstream.value, "timeout": "60s"}}
    manager = _typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=upstream.value,
        generate_request_id=False,  # nobody else makes one
        http_filters=[
            _envoy_injector(workshop, upstream.value),
            _typed("envoy.filters.http.router", "filters.http.router.v3.Router"),
        ],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    )
    return {"name": upstream.value, "address": _socket(port), "filter_chains": [{"filters": [manager]}]}


def envoy(workshop: Workshop) -> Peer:
    """``credential_injector`` with the oauth2 client-credentials source, one worker thread."""
    ports = dict(zip(Upstream, free_ports(2), strict=True))
    secret = {"name": "client-secret", "generic_secret": {"secret": {"inline_string": workshop.client_secret}}}
    plain, tls = workshop.origin[Upstream.PLAIN], workshop.origin[Upstream.TLS]
    bootstrap = {
        "static_resources": {
            "secrets": [secret],
            "listeners": [_envoy_listener(workshop, upstream, port) for upstream, port in ports.items()],
            "clusters": [
                _envoy_cluster("plain", plain),
                _envoy_cluster("tls", tls, transport_socket=_envoy_tls(workshop)),
                _envoy_cluster("idp", workshop.idp_port),
            ],
        }
    }
    path = workshop.write("envoy.json", json.dumps(bootstrap))
    command = [str(ENVOY_BINARY), "--config-path", str(path), "--concurrency", "1", "--disable-hot-restart"]
    command += ["--log-level", "warn"]
    version = _output(str(ENVOY_BINARY), "--version").rpartition("version: ")[2].split("/")[1:2]
    rows = {ENVOY: _addresses(ports[Upstream.PLAIN], ports[Upstream.TLS])}
    return Peer(Program(ENVOY, command, workshop.folder, tuple(ports.values())), f"Envoy {''.join(version)}", rows)


# --- HAProxy and nginx ----------------------------------------------------------------------------------------------

HAPROXY_CONFIGURATION: Final = """\
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend plain
    bind 127.0.0.1:{plain}
    http-request set-header Authorization "Bearer {token}"
    default_backend plain
frontend tls
    bind 127.0.0.1:{tls}
    http-request set-header Authorization "Bearer {token}"
    default_backend tls
backend plain
    server origin 127.0.0.1:{origin_plain}
backend tls
    server origin 127.0.0.1:{origin_tls} ssl verify required ca-file {ca} sni str({host}) verifyhost {host}
"""


def haproxy(workshop: Workshop) -> Peer:
    """One thread, static header."""
    plain, tls = free_ports(2)
    path = workshop.write("haproxy.cfg", _fill(HAPROXY_CONFIGURATION, workshop, plain, tls))
    command = [_executable("haproxy"), "-db", "-f", str(path)]
    version = _output("haproxy", "-v").split()[2].partition("-")[0]
    rows = {"haproxy": _addresses(plain, tls)}
    return Peer(Program("haproxy", command, workshop.folder, (plain, tls)), f"HAProxy {version}", rows)


NGINX_CONFIGURATION: Final = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Authorization "Bearer {token}";
    proxy_max_temp_file_size 0;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {ca};
    proxy_ssl_server_name on;
    proxy_ssl_name {host};
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
    upstream plain {{ server 127.0.0.1:{origin_plain}; keepalive 64; keepalive_requests 1000000000; }}
    upstream tls {{ server 127.0.0.1:{origin_tls}; keepalive 64; keepalive_requests 1000000000; }}
    server {{ listen 127.0.0.1:{plain}; location / {{ proxy_pass http://plain; }} }}
    server {{ listen 127.0.0.1:{tls}; location / {{ proxy_pass https://tls; }} }}
}}
"""


def nginx(workshop: Workshop) -> Peer:
    """One process, static header, big bodies streamed and not spooled to disk."""
    plain, tls = free_ports(2)
    path = workshop.write("nginx.conf", _fill(NGINX_CONFIGURATION, workshop, plain, tls))
    command = [_executable("nginx"), "-p", str(workshop.folder), "-c", str(path), "-e", "stderr"]
    version = _output("nginx", "-v").rpartition("/")[2]
    rows = {"nginx": _addresses(plain, tls)}
    return Peer(Program("nginx", command, workshop.folder, (plain, tls)), f"nginx {version}", rows)


def _fill(template: str, workshop: Workshop, plain: int, tls: int) -> str:
    return template.format(
        folder=workshop.folder,
        plain=plain,
        tls=tls,
        token=workshop.token,
        ca=workshop.ca,
        host=HOSTS[Upstream.TLS],
        origin_plain=workshop.origin[Upstream.PLAIN],
        origin_tls=workshop.origin[Upstream.TLS],
    )


def _executable(name: str) -> str:
    """Debian keeps daemons in /usr/sbin, which is not on everybody's path."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") or name


PEERS: Final[dict[str, Callable[[Workshop], Peer]]] = {
    SIDECAR: sidecar,
    ENVOY: envoy,
    "haproxy": haproxy,
    "nginx": nginx,
}
