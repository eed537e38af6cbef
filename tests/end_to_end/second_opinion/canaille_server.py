# mypy: ignore-errors
"""Canaille, an identity server in Python, with a person who has logged in and consented; runs in an environment of its
own, where the packages ``canaille`` and ``pytest-iam`` are.

Argument: JSON, a list of clients: {client_id, client_secret, method, jwks, redirect_uris}. Standard output: one JSON
line {"issuer"} when it listens.
"""

from __future__ import annotations

import json
import os
import sys

import portpicker
import pytest_iam
from canaille import create_app
from canaille.app import models
from canaille.backends import Backend


class Folders:
    """Stands in for pytest's factory of temporary folders, which the configuration does not use."""


def main() -> None:
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # it speaks http, on loopback
    port = portpicker.pick_unused_port()
    configuration = pytest_iam.iam_configuration.__wrapped__(Folders(), port)
    configuration["CANAILLE_OIDC"]["REQUIRE_NONCE"] = False
    app = create_app(config=configuration)
    server = pytest_iam.Server(app, port, Backend.instance)
    with app.app_context():
        for client in json.loads(sys.argv[1]):
            register(client)
        person = server.random_user(user_name="ada")
        server.login(person)
        server.consent(person)
    sys.stdout.write(json.dumps({"issuer": f"http://localhost:{port}"}) + "\n")
    sys.stdout.flush()
    server.httpd.serve_forever()


def register(client: dict) -> None:
    registered = models.Client(
        client_id=client["client_id"],
        client_secret=client.get("client_secret"),
        client_name=client["client_id"],
        redirect_uris=client["redirect_uris"],
        grant_types=["authorization_code", "refresh_token", "client_credentials"],
        response_types=["code"],
        scope=["profile", "offline_access"],
        token_endpoint_auth_method=client["method"],
        jwks=json.dumps(client["jwks"]) if "jwks" in client else None,
    )
    Backend.instance.save(registered)
    Backend.instance.update(registered, audience=[registered])
    Backend.instance.save(registered)


if __name__ == "__main__":
    main()
