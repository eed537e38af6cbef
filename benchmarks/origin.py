"""The origin: one nginx worker with two static files, plain and over TLS, which wants the token on every request.

Without the exact token the answer is 401, which wrk counts as an error, which fails the run: a proxy cannot look good
by not doing its job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.processes import Core, Program
from benchmarks.scenarios import SCENARIOS, Upstream

if TYPE_CHECKING:
    from benchmarks.workshop import Workshop

# One process (no master), connections kept for ever, nothing written to disk.
CONFIGURATION = """\
daemon off;
master_process off;
pid {folder}/origin.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_body_temp_path {folder}/origin-body;
    proxy_temp_path {folder}/origin-proxy;
    fastcgi_temp_path {folder}/origin-fastcgi;
    uwsgi_temp_path {folder}/origin-uwsgi;
    scgi_temp_path {folder}/origin-scgi;
    server {{
        listen 127.0.0.1:{plain} reuseport backlog=1024;
        listen 127.0.0.1:{tls} ssl reuseport backlog=1024;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_protocols TLSv1.2 TLSv1.3;
        root {folder}/files;
        if ($http_authorization != "Bearer {token}") {{ return 401; }}
    }}
}}
"""


def origin(workshop: Workshop) -> Program:
    """Write the files and the configuration; returns what to start."""
    files = workshop.folder / "files"
    files.mkdir()
    for scenario in SCENARIOS:
        (files / scenario.path.lstrip("/")).write_bytes(b"x" * scenario.size)
    plain, tls = workshop.origin[Upstream.PLAIN], workshop.origin[Upstream.TLS]
    text = CONFIGURATION.format(
        folder=workshop.folder, plain=plain, tls=tls, certificate=workshop.certificate, token=workshop.token
    )
    path = workshop.write("origin.conf", text)
    command = ["nginx", "-p", str(workshop.folder), "-c", str(path), "-e", "stderr"]
    return Program("origin", command, workshop.folder, (plain, tls), Core.LOAD)
