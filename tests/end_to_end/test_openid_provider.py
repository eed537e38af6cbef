"""Against the certified oidc-provider: every client authentication that it offers, DPoP, resources, scopes, discovery.

The provider is over TLS with a test CA, takes the issuer alone for an assertion's audience, refuses a JWT whose ``jti``
came before, and asks for certificates on a port of its own. An upstream judges every token with its own eyes.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from yarl import URL

from sidecar.errors import InvalidClient, TokenMalformed, TokenRefused, TokenRequestError, TokenTLS
from sidecar.oauth.endpoint import Endpoint, Wire
from tests.end_to_end.asking import asker
from tests.end_to_end.node_packages import missing, needs_node
from tests.end_to_end.openid_provider import OTHER_RESOURCE, RESOURCE, OpenIDProvider
from tests.end_to_end.origin import VALID, Authority
from tests.end_to_end.registrations import ODD_ID, SCOPE, Registrar, Registration
from tests.end_to_end.resource_server import ResourceServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sidecar.oauth.answer import Answer
    from sidecar.oauth.client_auth import TokenRequest
    from tests.end_to_end.conftest import StartSidecar
    from tests.end_to_end.sidecar_process import Configuration, SidecarProcess

pytestmark = needs_node()

MANY: Final = 30
"""Token requests in a row, to see whether one of their stamps comes twice."""


@pytest.fixture
def workers(tmp_path: Path, authority: Authority) -> dict[str, Registration]:
    return Registrar(tmp_path, authority).workers()


@pytest.fixture
async def provider(
    tmp_path: Path, authority: Authority, workers: dict[str, Registration]
) -> AsyncIterator[OpenIDProvider]:
    assert missing() is None, missing()
    async with OpenIDProvider(tmp_path, authority, workers, nonce_for=["dpop-nonce"]) as provider:
        yield provider


@asynccontextmanager
async def upstream(
    provider: OpenIDProvider, authority: Authority, *, nonce: str | None = None
) -> AsyncIterator[ResourceServer]:
    keys = await provider.keys()
    async with ResourceServer(provider.issuer, keys, authority.server, nonce=nonce) as server:
        yield server


def configuration(server: ResourceServer, authority: Authority, credentials: dict[str, Any]) -> Configuration:
    """A base URL for the upstream, under which each credential has a path of its name."""
    where = {"host": "localhost", "port": server.port, "ca_file": str(authority.ca_file)}
    return {
        "listeners": [{"name": "api", "mode": "reverse", "upstream": f"https://localhost:{server.port}"}],
        "credentials": credentials,
        "routes": [where | {"name": name, "paths": [f"/{name}/"], "credential": name} for name in credentials],
        "allow_inline_secrets": True,
    }


async def ask(sidecar: SidecarProcess, name: str, *, body: bytes | None = None) -> int:
    """The status that an app gets on the path of this credential."""
    url = f"{sidecar.url('api')}/{name}/items?page=1"
    method = "GET" if body is None else "POST"
    async with aiohttp.ClientSession() as session, session.request(method, url, data=body) as answer:
        await answer.read()
        return answer.status


# --- who the client is -----------------------------------------------------------------------------------------------


async def test_every_client_authentication_gets_a_token_that_an_upstream_takes(
    provider: OpenIDProvider,
    workers: dict[str, Registration],
    authority: Authority,
    start_sidecar: StartSidecar,
) -> None:
    credentials = {name: provider.credential(name) for name in workers}
    async with upstream(provider, authority) as server:
        sidecar = await start_sidecar(configuration(server, authority, credentials))
        statuses = {name: await ask(sidecar, name) for name in credentials}
        verdicts = {visit.path.split("/")[1]: (visit.client, visit.verdict) for visit in server.visits}

    assert statuses == dict.fromkeys(credentials, 200), f"{provider.refused()}\n{verdicts}\n{sidecar.stderr}"
    assert verdicts == {name: (workers[name].metadata["client_id"], VALID) for name in credentials}
    assert {one["description"] for one in provider.refused()} == {"nonce is required in the DPoP proof"}
    assert provider.lines("broken") == []
    bound = {visit.path.split("/")[1] for visit in server.visits if "jkt" in visit.claims.get("cnf", {})}
    assert bound == {"dpop", "dpop-nonce", "dpop-tls"}
    assert await sidecar.stop() == 0


@pytest.mark.parametrize("name", ["tls", "self-signed"])
async def test_a_certificate_is_shown_at_the_alias_and_proves_nothing_elsewhere(
    name: str, provider: OpenIDProvider
) -> None:
    async with asker(provider.credential(name)) as idp:
        assert (await idp.ask()).lifetime > 0
    elsewhere = provider.credential(name, token_url=f"{provider.issuer}/token")
    del elsewhere["issuer"]
    async with asker(elsewhere) as idp:
        with pytest.raises(InvalidClient):
            await idp.ask()
    assert [one["description"] for one in provider.refused()] == ["client certificate was not provided"]


async def test_ids_and_secrets_of_any_characters_are_taken_only_if_they_are_encoded(provider: OpenIDProvider) -> None:
    async with asker(provider.credential("basic-odd")) as idp:
        await idp.ask()
    assert [one["client"] for one in provider.issued()] == [ODD_ID]
    async with asker(provider.credential("basic-odd", basic_encoding="raw")) as idp:
        with pytest.raises(TokenRefused, match="invalid_request"):
            await idp.ask()


@pytest.mark.parametrize("name", ["secret-jwt", "key-ec", "key-ed", "dpop", "dpop-nonce"])
async def test_no_jwt_is_ever_the_same_as_one_before(name: str, provider: OpenIDProvider) -> None:
    async with asker(provider.credential(name)) as idp:
        await idp.ask()
        await asyncio.gather(*(idp.ask() for _ in range(MANY)))
    assert len(provider.issued(name)) == MANY + 1
    assert len(provider.refused(name)) == (1 if name == "dpop-nonce" else 0)


class TwiceSending(Endpoint):
    """Sends every token request, and then the very same once more."""

    async def send(self, request: TokenRequest, wire: Wire) -> Answer:
        await super().send(request, wire)
        return await super().send(request, wire)


@pytest.mark.parametrize("name", ["secret-jwt", "key-ec", "dpop"])
async def test_the_provider_would_notice(name: str, provider: OpenIDProvider) -> None:
    """The proof that the test above proves something."""
    async with asker(provider.credential(name), kind=TwiceSending) as idp:
        with pytest.raises(TokenRequestError):
            await idp.ask()
    assert len(provider.issued(name)) == len(provider.refused(name)) == 1


# --- proof of possession ---------------------------------------------------------------------------------------------


async def test_a_bound_token_is_proven_to_an_upstream_that_wants_one_nonce_after_the_other(
    provider: OpenIDProvider, authority: Authority, start_sidecar: StartSidecar
) -> None:
    async with upstream(provider, authority, nonce="first") as server:
        sidecar = await start_sidecar(configuration(server, authority, {"dpop": provider.credential("dpop")}))
        bodies = [b"told by a 401", b"known"]
        assert [await ask(sidecar, "dpop", body=body) for body in bodies] == [200, 200]
        server.next_nonce = "second"
        assert [await ask(sidecar, "dpop") for _ in range(3)] == [200] * 3
        server.nonce = "third"
        assert await ask(sidecar, "dpop", body=b"told by a 401") == 200
        verdicts = [visit.verdict for visit in server.visits]
    assert verdicts == ["nonce", *[VALID] * 5, "nonce", VALID]
    assert len(provider.issued()) == 1  # no 401 of an upstream that wants a nonce is the token's fault


async def test_a_proof_names_the_upstream_and_not_the_way_to_it(
    provider: OpenIDProvider, authority: Authority, start_sidecar: StartSidecar
) -> None:
    """The app asks another port, or a proxy for http; the upstream sees https, its own port and the path as it is."""
    async with upstream(provider, authority) as server:
        file = configuration(server, authority, {"dpop": provider.credential("dpop")})
        file["listeners"].append({"name": "egress", "mode": "forward"})
        sidecar = await start_sidecar(file)
        path = URL("/dpop/a%20b/%C3%A9;c=d/?page=%2F#end", encoded=True)
        through = URL(f"http://LOCALHOST:{server.port}").join(path)
        async with aiohttp.ClientSession() as session:
            for url, proxy in ((URL(sidecar.url("api")).join(path), None), (through, sidecar.url("egress"))):
                async with session.patch(url, proxy=proxy, data=b"body") as answer:
                    assert answer.status == 200, await answer.text()


# --- what the token is for -------------------------------------------------------------------------------------------


async def test_a_resource_is_asked_for_by_its_indicator(provider: OpenIDProvider) -> None:
    async with asker(provider.credential("basic", token_params={"resource": OTHER_RESOURCE})) as idp:
        await idp.ask()
    assert [one["aud"] for one in provider.issued()] == [OTHER_RESOURCE]


async def test_two_resources_arrive_as_two(provider: OpenIDProvider) -> None:
    """The provider grants a client's own token for one resource alone, so its refusal shows that it saw both."""
    async with asker(provider.credential("basic", token_params={"resource": [RESOURCE, OTHER_RESOURCE]})) as idp:
        with pytest.raises(TokenRefused, match="invalid_target"):
            await idp.ask()
    assert [one["description"] for one in provider.refused()] == [
        "only a single resource indicator value is supported for this grant type"
    ]


async def test_a_token_with_less_than_the_required_scopes_is_not_used_and_an_alarm(
    provider: OpenIDProvider, authority: Authority, start_sidecar: StartSidecar
) -> None:
    """The provider answers 200 and leaves out what it does not know."""
    wants = {"scopes": [SCOPE, "orders.delete"], "required_scopes": ["orders.delete"]}
    credentials = {
        "closed": provider.credential("basic", **wants),
        "degraded": provider.credential("key-ec", **wants, on_scope_missing="degraded"),
    }
    async with upstream(provider, authority) as server:
        file = configuration(server, authority, credentials) | {"limits": {"token_wait": "500ms"}}
        sidecar = await start_sidecar(file)
        statuses = [await ask(sidecar, name) for name in credentials]
        assert statuses == [503, 200]
        assert [(visit.verdict, visit.claims["scope"]) for visit in server.visits] == [(VALID, SCOPE)]
    metrics = await sidecar.metrics()
    assert metrics.value("token_requests_total", credential="closed", result="invalid_scope") >= 1
    assert metrics.value("token_up", credential="closed") == 0
    assert metrics.value("token_up", credential="degraded") == 1


# --- where the endpoints are -----------------------------------------------------------------------------------------


async def test_an_issuer_that_calls_itself_otherwise_gets_no_secret(provider: OpenIDProvider) -> None:
    """127.0.0.1 is the same server, and its certificate is good; but its metadata name localhost."""
    credential = provider.credential("basic", issuer=provider.issuer.replace("localhost", "127.0.0.1"))
    async with asker(credential) as idp:
        with pytest.raises(TokenMalformed, match="another issuer"):
            await idp.ask()
    assert provider.issued() == provider.refused() == []


async def test_an_issuer_whose_certificate_is_not_trusted_gets_no_secret(provider: OpenIDProvider) -> None:
    credential = provider.credential("basic")
    del credential["ca_file"]
    async with asker(credential) as idp:
        with pytest.raises(TokenTLS, match="not trusted"):
            await idp.ask()
    assert provider.issued() == provider.refused() == []
