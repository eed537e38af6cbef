"""``sidecar login``: a person's one-time consent, which ends as a grant in the store, and its way back, ``--revoke``.

Decides the order: what can fail without the person fails first, then they are asked, then the tokens are fetched, and
only what is complete is stored. Leaves to ``interactive`` what is asked and which answer counts, to ``callback`` how it
comes back from a browser, to ``idp`` the requests. A sidecar that runs with the credential need not be stopped: it sees
that the store holds another lineage and goes on with that.

What the person has to do stands on standard error, what came of it on standard output; a token stands on neither.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import sys
import threading
import webbrowser
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.broker.consent import authorization_endpoint, device_code, grant_of, poll
from sidecar.broker.idp import IdP, party
from sidecar.broker.report import NEXT_STEPS
from sidecar.broker.sealing import read_keys
from sidecar.broker.store import Grant, TokenStore
from sidecar.cli import configuration_file
from sidecar.cli.callback import CallbackListener
from sidecar.cli.run import keep_memory_private
from sidecar.config import load
from sidecar.config.model import BY_CONSENT, CERTIFICATE_AUTHS, NEEDS_LOGIN
from sidecar.config.problems import did_you_mean, nearest
from sidecar.config.scalars import duration
from sidecar.errors import (
    ConfigurationInvalid,
    LoginNeeded,
    StoreUnusable,
    TokenRefused,
    TokenRequestError,
    UsageError,
)
from sidecar.oauth import grants, interactive
from sidecar.oauth.endpoint import Endpoint
from sidecar.oauth.redirect import RedirectURI
from sidecar.oauth.token import parse as parse_token
from sidecar.runtime import SystemClock
from sidecar.telemetry import log
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.config.model import Configuration, Credential
    from sidecar.oauth.answer import Answer
    from sidecar.oauth.discovery import Metadata
    from sidecar.oauth.interactive import DeviceCode, Login
    from sidecar.oauth.token import Token
    from sidecar.runtime import Clock
    from sidecar.secrets import Secret

HELP: Final = """Give your consent for a credential, once; the refresh token that comes of it goes into the store.
grant: authorization_code asks in a browser on this machine, grant: device_code in a browser anywhere.
A sidecar that runs takes the new grant up by itself."""
EXAMPLE: Final = """example: sidecar login -c config.yaml repository
         sidecar login --no-browser --port 7171 repository
         sidecar login --revoke repository
exit codes: 0 done, 2 usage, 3 configuration, 4 a secret is missing, 5 the IdP cannot be reached, 6 no consent or the
            IdP refused, 8 the port cannot be bound"""

PATIENCE_SECONDS: Final = 300.0
"""For the browser's answer; a device's code has an end of its own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which credential, and how the person is asked."""
    add = parser.add_argument
    add("credential", metavar="CREDENTIAL", help="its name in the configuration")
    add("-c", "--config", metavar="FILE", help="default: $SIDECAR_CONFIG, then config.yaml")
    add("--no-browser", action="store_true", help="only print the address, open nothing")
    add("--port", metavar="N", type=_port, help="where the browser comes back to; default: redirect_uri's, or any")
    add("--timeout", metavar="TIME", type=_duration, help="how long to wait for you; default: 5m, or the code's life")
    add("--revoke", action="store_true", help="take the consent back: revoke the refresh token, then forget it")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError("a number from 1 to 65535 is wanted")
    return int(text)


def _duration(text: str) -> float:
    try:
        seconds = duration(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    if seconds <= 0:
        raise argparse.ArgumentTypeError("a time longer than nothing is wanted")
    return seconds


def execute(arguments: argparse.Namespace) -> int:
    """Ask, and store what comes of it.

    Raises:
        UsageError, ConfigurationInvalid, SecretMissing, CannotBind: before the person is asked.
        LoginNeeded, TokenRequestError: there is no grant in the end.
        StoreUnusable: it could not be kept.
    """
    configuration = load.load(configuration_file(arguments.config))
    name = arguments.credential
    credential = _credential(configuration, name, revoke=arguments.revoke)
    if arguments.port is not None and (arguments.revoke or credential.grant == "device_code"):
        raise UsageError("--port is for a login with grant: authorization_code, where a browser comes back")
    load.missing_secrets(_alone(configuration, name))
    store = _store(configuration)
    log.configure(configuration.log.level)
    keep_memory_private()
    options = Options(arguments.port, arguments.timeout, None if arguments.no_browser else find_browser())
    with asyncio.Runner() as runner:
        running = _run(configuration, credential, name, store=store, options=None if arguments.revoke else options)
        try:
            runner.run(running)
        except TokenRefused:
            raise  # its words are the next step
        except TokenRequestError as error:
            raise type(error)(f"{error.detail}\n  next: {NEXT_STEPS[error.reason]}") from error
    return 0


def _credential(configuration: Configuration, name: str, *, revoke: bool) -> Credential:
    credential = configuration.credentials.get(name)
    if credential is None:
        near = did_you_mean(nearest(name, configuration.credentials))
        raise UsageError(f"the configuration has no credential of this name{near}")
    if credential.grant not in (NEEDS_LOGIN if revoke else BY_CONSENT):
        raise UsageError(f"credential {name} has grant: {credential.grant}, which nobody logs in for")
    return credential


def _alone(configuration: Configuration, name: str) -> Configuration:
    """What of the configuration a login uses."""
    return msgspec.structs.replace(
        configuration,
        listeners=(),
        admin=None,
        credentials={name: configuration.credentials[name]},
        routes=(),
        interception=None,
    )


def _store(configuration: Configuration) -> TokenStore:
    """The store, known to have a key and a place: nobody is asked for a consent that could not be kept."""
    if configuration.store is None:
        raise ConfigurationInvalid("a login needs the section 'store', where its grant is kept")
    read_keys(configuration.store.key)
    path = Path(configuration.store.path)
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise StoreUnusable(f"{there}: user {os.geteuid()} cannot write there, so the grant could not be kept")
    return TokenStore(path, configuration.store.key)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a login.

    Args:
        port: for the browser's answer.
        patience: seconds to wait for the person.
        open_browser: shows an address; None where there is nothing to show it on.
    """

    port: int | None = None
    patience: float | None = None
    open_browser: Callable[[str], None] | None = None


async def _run(
    configuration: Configuration, credential: Credential, name: str, *, store: TokenStore, options: Options | None
) -> None:
    clock = SystemClock()
    endpoint = Endpoint(clock)
    meters = Metrics().credential(name)
    idp = IdP(credential, name=name, clock=clock, endpoint=endpoint, meters=meters, limits=configuration.limits)
    try:
        if options is None:
            await revoke(credential, name, idp=idp, store=store)
        else:
            await log_in(credential, name, idp=idp, store=store, clock=clock, options=options)
    finally:
        await endpoint.close()


# --- logging in ------------------------------------------------------------------------------------------------------


async def log_in(
    credential: Credential, name: str, *, idp: IdP, store: TokenStore, clock: Clock, options: Options
) -> None:
    """Get the person's consent and store its grant; prints what there is to do, and what came of it.

    Raises:
        LoginNeeded: nobody answered in time, or the provider gave no refresh token.
        TokenRequestError: the provider refused, or could not be reached.
        StoreUnusable: the grant could not be kept.
    """
    metadata = await idp.metadata()
    if credential.grant == "device_code":
        answer = await _by_device(credential, idp, metadata, clock, options)
    else:
        answer = await _by_browser(credential, idp, metadata, options)
    token = parse_token(answer, grants.expected(credential))
    grant = grant_of(token, credential, idp, obtained_at=answer.wall)
    store.write(name, grant)
    print(_report(name, grant, token, store))


def _report(name: str, grant: Grant, token: Token, store: TokenStore) -> str:
    ends = "the provider did not say"
    if grant.expires_at is not None:
        ends = f"{datetime.fromtimestamp(grant.expires_at, UTC):%Y-%m-%d %H:%M} UTC"
    lines = [
        f"The grant of credential {name} is stored in {store.path}:",
        f"  scopes               {grant.scope or 'as they were asked for'}",
        f"  refresh token until  {ends}",
    ]
    if token.missing_scopes:
        lines.append(f"  not granted          {' '.join(token.missing_scopes)}")
    return "\n".join(lines)


# --- by authorization code -------------------------------------------------------------------------------------------


async def _by_browser(credential: Credential, idp: IdP, metadata: Metadata | None, options: Options) -> Answer:
    endpoint = authorization_endpoint(credential, metadata)
    address = RedirectURI.read(credential.redirect_uri, port=options.port)
    async with CallbackListener(address) as listener:
        login = interactive.Login.begin(listener.redirect_uri)
        url = interactive.authorization_url(endpoint, login, credential)
        _show(_browser_text(url, login, opened=options.open_browser is not None), url, options)
        code = await _code(listener, login, credential.issuer, metadata, options.patience or PATIENCE_SECONDS)
    return await idp.post(interactive.code_fields(login, code, credential))


async def _code(
    listener: CallbackListener, login: Login, issuer: str | None, metadata: Metadata | None, patience: float
) -> Secret:
    required = metadata is not None and metadata.iss_parameter
    accept = partial(interactive.check_callback, login=login, issuer=issuer, iss_required=required)
    try:
        async with asyncio.timeout(patience):
            return await listener.wait(accept)
    except TimeoutError:
        raise LoginNeeded(f"no answer came from the browser in {patience:g} s: start the login again") from None


def _browser_text(url: str, login: Login, *, opened: bool) -> str:
    where = "A browser should open. If it does not, open" if opened else "Open"
    elsewhere = "" if opened else " A browser elsewhere needs that port\nforwarded to this machine (ssh -L)."
    return (
        f"{where} this address in a browser on this machine:\n\n  {url}\n\n"
        f"Its answer is waited for at {login.redirect_uri}; Ctrl-C ends the login.{elsewhere}"
    )


# --- by device code --------------------------------------------------------------------------------------------------


async def _by_device(
    credential: Credential, idp: IdP, metadata: Metadata | None, clock: Clock, options: Options
) -> Answer:
    device = await device_code(credential, idp, metadata)
    _show(_device_text(device), device.complete_uri or device.verification_uri, options)
    polling = interactive.Polling.begin(device, now=clock.now(), patience=options.patience or math.inf)
    return await poll(polling, interactive.device_token_fields(device, credential), idp, clock)


def _device_text(device: DeviceCode) -> str:
    direct = f"\n\nOr open {device.complete_uri}" if device.complete_uri else ""
    return (
        f"Open {device.verification_uri} in any browser and enter this code:\n\n  {device.user_code}{direct}\n\n"
        f"The code lives for {math.ceil(device.expires_in / 60)} min; Ctrl-C ends the login."
    )


# --- the person's screen ---------------------------------------------------------------------------------------------


def _show(text: str, url: str, options: Options) -> None:
    print(text, file=sys.stderr, flush=True)
    if options.open_browser is not None:
        options.open_browser(url)


def find_browser() -> Callable[[str], None] | None:
    """What opens an address; None without a display, where ``webbrowser`` would start one of the terminal's browsers
    over what stands there."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return _open if sys.platform == "darwin" or any(os.environ.get(name) for name in screens) else None


def _open(url: str) -> None:
    """In a thread that nobody waits for: some browsers stay until they are closed."""
    threading.Thread(target=_open_quietly, args=(url,), name="browser", daemon=True).start()


def _open_quietly(url: str) -> None:
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(url)


# --- taking it back --------------------------------------------------------------------------------------------------


async def revoke(credential: Credential, name: str, *, idp: IdP, store: TokenStore) -> None:
    """Revoke the stored refresh token (RFC 7009), then forget it; nothing stored is a success, too.

    Raises:
        TokenRequestError: the provider did not revoke it: it is still stored, so that this can be tried again.
        ConfigurationInvalid: there is nowhere to revoke it: it is forgotten all the same. Or it is another provider's,
            who is not the configured one and gets to see nothing of it: it is kept.
    """
    grant = store.read(name)
    if grant is None:
        print(f"The store has no grant of credential {name}: nothing to revoke.")
        return
    if grant.party not in (None, party(credential)):
        raise ConfigurationInvalid(f"the grant of credential {name} is of {grant.party}, not of the one configured now")
    url = credential.revocation_url or _revocation_endpoint(
        await idp.metadata(), mtls=credential.client_auth in CERTIFICATE_AUTHS
    )
    if url is not None:
        interactive.check_revoked(await idp.post(interactive.revocation_fields(grant.refresh_token), url))
    store.remove(name)
    if url is None:
        raise ConfigurationInvalid(
            f"the grant of credential {name} is forgotten here, but it is valid until it is revoked at the provider: "
            "there is no revocation_url, and the issuer names none"
        )
    print(f"The grant of credential {name} is revoked and forgotten.")


def _revocation_endpoint(metadata: Metadata | None, *, mtls: bool) -> str | None:
    name = "revocation_endpoint"
    if metadata is None or name not in metadata.endpoints:
        return None
    return metadata.endpoint(name, mtls=mtls)
