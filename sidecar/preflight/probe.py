"""The last stage: each route with a ``probe`` is called with its token, as the sidecar would call it.

Decides what of an answer says that the token is not accepted. The body is not read; redirects are not followed, because
they could lead the token to another host. A token that rests on the store is only had from the sidecar that owns it.
"""

from __future__ import annotations

import math
import ssl
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from sidecar.admin.client import AdminClient
from sidecar.config.model import NEEDS_LOGIN
from sidecar.errors import SidecarError
from sidecar.oauth import dpop
from sidecar.oauth.endpoint import USER_AGENT
from sidecar.oauth.token import Token
from sidecar.preflight.dialling import Party, Resolving, Target, Unreachable, addresses
from sidecar.preflight.findings import Finding
from sidecar.preflight.jobs import Job, Outcome
from sidecar.preflight.kinds import Kind, Stage
from sidecar.proxy.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.config.found import Path
    from sidecar.config.model import Route
    from sidecar.preflight.subject import Subject
    from sidecar.proxy.resolver import Lookup
    from sidecar.runtime import Clock

LONGEST_SECONDS: Final = 30.0
"""An upstream that takes longer for its health is not well, whatever ``limits.first_byte`` allows."""


class Probe:
    """The jobs of this stage."""

    def __init__(self, subject: Subject, *, clock: Clock, lookup: Lookup) -> None:
        self._subject = subject
        self._clock = clock
        self._lookup = lookup

    def jobs(self, tokens: Mapping[str, Token], failed: Mapping[str, str]) -> list[Job]:
        """One for each route with a probe.

        Args:
            tokens: those that were obtained, by the credential's name.
            failed: why a route is not called, by its label.
        """
        probed = [(path, route) for path, route in self._subject.routes() if route.probe is not None]
        return [self._job(path, route, tokens.get(route.credential), failed) for path, route in probed]

    def _job(self, path: Path, route: Route, token: Token | None, failed: Mapping[str, str]) -> Job:
        place = (*path, "probe")

        async def work() -> Outcome:
            if reason := failed.get(route.label):
                return Outcome(skipped=reason)
            held = token or await self._of_running(route.credential)
            return Outcome(skipped=held) if isinstance(held, str) else await self._call(place, route, held)

        return Job(Stage.PROBE, f"{route.label} {route.probe}", place, work)

    async def _of_running(self, name: str) -> Token | str:
        """The token that a running sidecar has, where nobody else may ask for one; else why there is none."""
        configuration = self._subject.configuration
        admin = configuration.admin
        if configuration.credentials[name].grant not in NEEDS_LOGIN:
            return f"there is no token of {name}"
        if admin is None or admin.token is None:
            return f"the token of {name} rests on the store: set `admin` with a token, and a running sidecar is asked"
        try:
            given = await AdminClient(admin.bind, admin.token).token(
                name, fresh=False, timeout=configuration.limits.token_request
            )
        except SidecarError as exc:
            return f"the running sidecar gives no token of {name}: {exc.title} ({exc.reason})"
        if given is None:
            return f"the token of {name} rests on the store, and no sidecar runs here that could be asked"
        return Token(given.secret, self._clock.now(), math.inf)

    async def _call(self, place: Path, route: Route, token: Token) -> Outcome:
        target = Target(
            Party.UPSTREAM, route.host, route.upstream_port, route.upstream_tls == "required", route.ca_file
        )
        try:
            found = await addresses(target, lookup=self._lookup, seconds=self._subject.configuration.limits.connect)
            status = await self._status(target, route.probe or "/", token, found)
        except Unreachable as exc:
            return Outcome((Finding(Kind.PROBE_FAILED, place, exc.message),))
        except TimeoutError:
            return Outcome((Finding(Kind.PROBE_FAILED, place, f"{target} did not answer in time"),))
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as exc:
            message = f"{target} gave no answer that is HTTP ({type(exc).__name__})"
            return Outcome((Finding(Kind.PROBE_FAILED, place, message),))
        kind = _kind(status)
        if kind is None:
            return Outcome(said=f"HTTP {status}")
        return Outcome((Finding(kind, place, f"{target} answered HTTP {status}"),))

    async def _status(self, target: Target, path: str, token: Token, found: list[str]) -> int:
        scheme = "https" if target.tls else "http"
        is_default = target.port == (443 if target.tls else 80)
        host = f"[{target.host}]" if ":" in target.host else target.host
        url = f"{scheme}://{host}{'' if is_default else f':{target.port}'}{path}"
        limits = self._subject.configuration.limits
        timeout = aiohttp.ClientTimeout(total=min(limits.first_byte, LONGEST_SECONDS), connect=limits.connect)

        async def checked(host: str) -> list[str]:
            """The addresses that were looked at are the ones that are dialled."""
            del host
            return found

        context = client_context(target.ca_file) if target.tls else False
        connector = aiohttp.TCPConnector(ssl=context, resolver=Resolving(checked), force_close=True)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            status, nonce = await self._get(session, url, token, None)
            if status == 401 and nonce is not None and token.dpop is not None:
                status, _ = await self._get(session, url, token, nonce)  # RFC 9449 section 9
            return status

    async def _get(
        self, session: aiohttp.ClientSession, url: str, token: Token, nonce: str | None
    ) -> tuple[int, str | None]:
        headers = {"User-Agent": USER_AGENT, "Accept": "*/*", **self._authorization(url, token, nonce)}
        async with session.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as response:
            return response.status, dpop.valid_nonce(response.headers.get("DPoP-Nonce", ""))

    def _authorization(self, url: str, token: Token, nonce: str | None) -> dict[str, str]:
        if token.dpop is None:
            return {"Authorization": f"Bearer {token.value.reveal()}"}
        proof = dpop.proof(
            token.dpop, method="GET", url=url, wall=self._clock.wall(), access_token=token.value, nonce=nonce
        )
        return {"Authorization": f"DPoP {token.value.reveal()}", "DPoP": proof}


def _kind(status: int) -> Kind | None:
    """What an answer says of the token; None is what is wanted."""
    match status:
        case 401 | 403:
            return Kind.PROBE_REFUSED
        case 404:
            return Kind.PROBE_NOT_FOUND
        case _:
            return Kind.PROBE_SERVER_ERROR if status >= 500 else None
