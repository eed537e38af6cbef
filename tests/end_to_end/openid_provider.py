"""The certified oidc-provider with all that it offers, in a process of its own, over TLS with the test CA.

What it tells of its work are lines on its standard output; this reads them. ``node/openid_provider.mjs`` says which.
"""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
from joserfc.jwk import KeySet

from tests.end_to_end.node_packages import FOLDER, NODE
from tests.end_to_end.programs import Program
from tests.end_to_end.registrations import SCOPE, Registration
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.end_to_end.origin import Authority

RESOURCE: Final = "urn:orders"
"""The one that a token is for if none was asked for."""
OTHER_RESOURCE: Final = "urn:billing"


class OpenIDProvider(Program):
    """``async with`` returns when it listens.

    Args:
        registrations: the clients it knows.
        access_seconds: how long access tokens live.
        nonce_for: ids of the clients whose DPoP proofs need a nonce.
    """

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        registrations: Mapping[str, Registration],
        *,
        access_seconds: int = 600,
        refresh_seconds: int = 86400,
        nonce_for: Sequence[str] = (),
    ) -> None:
        self.ca_file = authority.ca_file
        self._registrations = registrations
        self.certificate, key = authority.files_for("localhost", "127.0.0.1", folder=folder)
        options = {
            "certificate": str(self.certificate),
            "key": str(key),
            "clientAuthority": str(authority.ca_file),
            "clients": [registration.metadata for registration in registrations.values()],
            "resources": {RESOURCE: f"{SCOPE} orders.write", OTHER_RESOURCE: SCOPE},
            "lifetimes": {"access": access_seconds, "refresh": refresh_seconds},
            "nonceFor": list(nonce_for),
        }
        file = folder / "provider.json"
        file.write_text(json.dumps(options))
        super().__init__("provider", [str(NODE), str(FOLDER / "openid_provider.mjs"), str(file)], folder=folder)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await until(self._listening, "oidc-provider starts")
        except BaseException:
            self.kill()
            raise
        return self

    def _listening(self) -> bool:
        assert self.running, f"oidc-provider ended:\n{self.stderr[-4000:]}"
        return bool(self.lines("issuer"))

    def lines(self, key: str) -> list[Any]:
        """What it said under this key, in order; the package's own notices stand between."""
        whole = [line for line in self.stdout.splitlines(keepends=True) if line.endswith("\n")]
        lines = [json.loads(line) for line in whole if line.startswith("{")]
        return [line[key] for line in lines if key in line]

    @property
    def issuer(self) -> str:
        issuer: str = self.lines("issuer")[0]
        return issuer

    def issued(self, client_id: str | None = None) -> list[dict[str, Any]]:
        """What it issued, to all clients or to one."""
        return [one for one in self.lines("issued") if client_id in (None, one["client"])]

    def refused(self, client_id: str | None = None) -> list[dict[str, Any]]:
        """The token requests it turned down, of all clients or of one."""
        return [one for one in self.lines("refused") if client_id in (None, one["client"])]

    def credential(self, name: str, **more: Any) -> dict[str, Any]:
        """The configuration of a registered client as a credential."""
        common = {"issuer": self.issuer, "ca_file": str(self.ca_file), "scopes": [SCOPE]}
        return common | self._registrations[name].credential | more

    def trusted(self) -> ssl.SSLContext:
        """TLS that believes this provider."""
        return ssl.create_default_context(cafile=self.ca_file)

    async def keys(self) -> KeySet:
        """Its public keys."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.issuer}/jwks", ssl=self.trusted()) as answer:
            return KeySet.import_key_set(await answer.json())

    async def post(self, path: str, fields: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a form sent by hand; no client proves itself but in the fields."""
        url = f"{self.issuer}{path}"
        async with aiohttp.ClientSession() as session, session.post(url, data=fields, ssl=self.trusted()) as answer:
            return answer.status, json.loads(await answer.text() or "{}")
