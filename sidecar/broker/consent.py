"""A person's consent as requests: what ``sidecar login`` and the status page do alike.

Decides which endpoints are asked, how a device's answer is waited for, and what of the answer becomes a grant. Leaves
to ``interactive`` what is asked and which answer counts, to ``idp`` the requests, and to its callers how the person is
spoken to and where the grant is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.broker.idp import party
from sidecar.broker.store import Grant, new_lineage
from sidecar.config.model import CERTIFICATE_AUTHS
from sidecar.errors import ConfigurationInvalid, LoginNeeded, TransientTokenError
from sidecar.oauth import interactive

if TYPE_CHECKING:
    from sidecar.broker.idp import IdP
    from sidecar.config.model import Credential
    from sidecar.oauth.answer import Answer
    from sidecar.oauth.discovery import Metadata
    from sidecar.oauth.grants import Fields
    from sidecar.oauth.interactive import DeviceCode, Polling
    from sidecar.oauth.token import Token
    from sidecar.runtime import Clock

_HOW_TO_GET_ONE: Final = (
    "ask for the scope offline_access (OpenID Connect), write ?access_type=offline&prompt=consent behind "
    "authorization_url (Google), or let the app's tokens expire (GitHub)"
)


def authorization_endpoint(credential: Credential, metadata: Metadata | None) -> str:
    """Where a browser is sent.

    Raises:
        ConfigurationInvalid: nobody says where that is.
    """
    return _endpoint(credential.authorization_url, metadata, "authorization_endpoint")


async def device_code(credential: Credential, idp: IdP, metadata: Metadata | None) -> DeviceCode:
    """What a person is shown, and what is waited for then.

    Raises:
        ConfigurationInvalid: there is no endpoint for it.
        TokenRequestError: the provider gives none.
    """
    mtls = credential.client_auth in CERTIFICATE_AUTHS
    endpoint = _endpoint(credential.device_authorization_url, metadata, "device_authorization_endpoint", mtls=mtls)
    return interactive.parse_device_answer(await idp.post(interactive.device_fields(credential), endpoint))


async def poll(polling: Polling | None, fields: Fields, idp: IdP, clock: Clock) -> Answer:
    """The answer that is not another wait; its tokens are to be read yet.

    Raises:
        LoginNeeded: there is no time left.
        TokenRequestError: the person said no.
    """
    while polling is not None:
        await clock.sleep_until(polling.next_at)
        outcome: Answer | TransientTokenError
        try:
            outcome = answer = await idp.post(fields)
        except TransientTokenError as exc:
            outcome = exc
        polling = interactive.after_poll(polling, outcome, now=clock.now())
    return answer


def grant_of(token: Token, credential: Credential, idp: IdP, *, obtained_at: float) -> Grant:
    """What is stored of a login.

    Args:
        obtained_at: Unix time.

    Raises:
        LoginNeeded: there is no refresh token, so nothing that could be.
    """
    if token.refresh_token is None:
        raise LoginNeeded(f"the provider gave no refresh token, so nothing was stored: {_HOW_TO_GET_ONE}")
    lifetime = token.refresh_token_lifetime
    return Grant(
        refresh_token=token.refresh_token,
        lineage=new_lineage(),
        obtained_at=obtained_at,
        expires_at=None if lifetime is None else obtained_at + lifetime,
        scope=token.scope,
        rotates=False,
        spent_at=None,
        seed=None,
        dpop_key=None if idp.dpop is None else idp.dpop.jwk,
        party=party(credential),
    )


def _endpoint(configured: str | None, metadata: Metadata | None, name: str, *, mtls: bool = False) -> str:
    """An endpoint as configured, which wins, or as the issuer names it; ``mtls`` for a client with a certificate."""
    if configured is not None:
        return configured
    if metadata is None:
        raise ConfigurationInvalid(f"there is neither an address of the {name} nor an issuer")
    return metadata.endpoint(name, mtls=mtls)
