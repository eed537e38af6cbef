"""A second opinion on the client side, from an identity server of other makers: Canaille, in Python.

    python -m tests.end_to_end.second_opinion PYTHON

PYTHON is that of an environment with canaille 0.3.6 and pytest-iam 0.3.0; they are none of this project's packages.
Prints a line for each thing that was tried, and fails if one went wrong. What it said last stands in README.md.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sidecar.broker.store import TokenStore
from sidecar.errors import InvalidGrant, SidecarError
from sidecar.secrets import Secret, SecretReference
from tests.end_to_end.asking import asker
from tests.end_to_end.browsers import FormBrowser
from tests.end_to_end.login_process import LoginProcess
from tests.end_to_end.programs import Program
from tests.end_to_end.registrations import ODD_SECRET, public_jwk
from tests.end_to_end.waiting import free_port, until
from tests.oauth import keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SERVER: Final = Path(__file__).parent / "canaille_server.py"
REFRESHES: Final = 5
SPACELESS_SECRET: Final = ODD_SECRET.replace(" ", "")
"""In Basic it decodes %20 but takes + for itself, in spite of RFC 6749 appendix B."""


class Canaille(Program):
    """The server, with the clients that it is to know."""

    def __init__(self, python: str, folder: Path, clients: list[dict[str, Any]]) -> None:
        super().__init__("canaille", [python, str(SERVER), json.dumps(clients)], folder=folder)

    async def issuer(self) -> str:
        """Its name, when it listens."""
        await until(lambda: "\n" in self.stdout or not self.running, "Canaille starts", seconds=60)
        assert self.running, self.stderr
        return str(json.loads(self.stdout)["issuer"])


class Opinion:
    """What is tried, one method each; the docstring is its line in the report."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._redirect_uri = f"http://127.0.0.1:{free_port()}/callback"
        self._key = self._private_file("key.pem", keys.pem(keys.private("P-256")))
        store_key = self._private_file("store-key", base64.b64encode(os.urandom(32)).decode())
        self._store = TokenStore(folder / "tokens", SecretReference("file", str(store_key)))
        self._sections = {"store": {"path": str(self._store.path), "key": f"file:{store_key}"}}
        self.issuer = ""

    def _private_file(self, name: str, text: str) -> Path:
        file = self._folder / name
        file.write_text(text)
        file.chmod(0o600)
        return file

    def clients(self) -> list[dict[str, Any]]:
        plain = {"redirect_uris": [self._redirect_uri]}
        return [
            plain | {"client_id": "basic", "client_secret": SPACELESS_SECRET, "method": "client_secret_basic"},
            plain | {"client_id": "post", "client_secret": ODD_SECRET, "method": "client_secret_post"},
            plain | {"client_id": "key", "method": "private_key_jwt", "jwks": {"keys": [public_jwk("P-256")]}},
            plain | {"client_id": "public", "method": "none"},
        ]

    def _person(self, client_id: str, **more: Any) -> dict[str, Any]:
        common = {"grant": "authorization_code", "issuer": self.issuer, "redirect_uri": self._redirect_uri}
        return common | {"client_id": client_id, "scopes": ["profile", "offline_access"]} | more

    def _by_key(self) -> dict[str, Any]:
        # Its idea of the audience is the older one, the token endpoint (OpenID Connect Core section 9).
        audience = f"{self.issuer}/oauth/token"
        proof = {"client_auth": "private_key_jwt", "private_key": f"file:{self._key}", "assertion_audience": audience}
        return self._person("key", **proof)

    async def secret_in_the_head(self) -> None:
        """client_credentials by client_secret_basic, a secret of odd characters"""
        credential = {"grant": "client_credentials", "issuer": self.issuer, "client_id": "basic"}
        async with asker(credential | {"client_secret": SPACELESS_SECRET}) as idp:
            assert (await idp.ask()).lifetime > 0

    async def consent_by_secret(self) -> None:
        """authorization_code with PKCE by client_secret_post: login, rotation, reuse refused"""
        file = self._private_file("secret", ODD_SECRET)
        await self._whole_life(self._person("post", client_auth="client_secret_post", client_secret=f"file:{file}"))

    async def consent_by_key(self) -> None:
        """authorization_code with PKCE by private_key_jwt: login, rotation, reuse refused"""
        await self._whole_life(self._by_key())

    async def consent_of_a_public_client(self) -> None:
        """authorization_code with PKCE by none: login, rotation, reuse refused"""
        await self._whole_life(self._person("public", client_auth="none"))

    async def _whole_life(self, credential: dict[str, Any]) -> None:
        first = await self._log_in(credential)
        async with asker(credential, sections=self._sections) as idp:
            spent, current = [], first
            for _ in range(REFRESHES):
                token = await idp.ask(current)
                assert token.refresh_token is not None, "there was no new refresh token"
                spent.append(current)
                current = token.refresh_token
            assert current not in spent
            try:
                await idp.ask(first)
            except InvalidGrant:
                return
            raise AssertionError("a spent refresh token was taken")

    async def _log_in(self, credential: dict[str, Any]) -> Secret:
        name = credential["client_id"]
        file = self._folder / f"{name}.json"
        listener = {"name": "egress", "bind": "127.0.0.1:6180"}
        file.write_text(json.dumps({"listeners": [listener], "credentials": {name: credential}} | self._sections))
        async with (
            LoginProcess(file, name, folder=self._folder / name) as login,
            FormBrowser(ssl.create_default_context()) as browser,
        ):
            await browser.consent(await login.address())
            await login.done()
        grant = self._store.read(name)
        assert grant is not None
        return grant.refresh_token


async def main(python: str) -> int:
    """The number of things that went wrong."""
    with tempfile.TemporaryDirectory() as name:
        opinion = Opinion(Path(name))
        async with Canaille(python, Path(name), opinion.clients()) as server:
            opinion.issuer = await server.issuer()
            tried = (
                opinion.secret_in_the_head,
                opinion.consent_by_secret,
                opinion.consent_by_key,
                opinion.consent_of_a_public_client,
            )
            return sum([await _failed(one) for one in tried])


async def _failed(attempt: Callable[[], Awaitable[None]]) -> bool:
    try:
        await attempt()
    except (AssertionError, SidecarError) as exc:
        sys.stdout.write(f"FAILED  {attempt.__doc__}: {exc}\n")
        return True
    sys.stdout.write(f"ok      {attempt.__doc__}\n")
    return False


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(1 if asyncio.run(main(sys.argv[1])) else 0)
