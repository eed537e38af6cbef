"""One request to the provider as it came in, what it is answered, and the refusals of RFC 6749 section 5.2.

What a request may have is the business of the endpoints.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Mapping

Form = list[tuple[str, str]]


def fields_of(content_type: str, body: str) -> Form:
    """The fields of a body; one that is neither a form nor an object in JSON has none."""
    if not content_type.startswith("application/json"):
        return parse_qsl(body, keep_blank_values=True)
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return [(name, str(value)) for name, value in members.items()] if isinstance(members, dict) else []


@dataclass(frozen=True, slots=True)
class Received:
    """One request.

    Args:
        at: the instant, on the provider's clock.
        form: the fields of the body, or of the query when there is no body.
        peer_port: the client's port, which tells connections apart.
        url: as the client addressed it, without the query.
        certificate: the client's, DER, if TLS asked for one and it came.
    """

    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    form: Form
    peer_port: int
    url: str = ""
    certificate: bytes | None = field(default=None, repr=False)

    @property
    def media_type(self) -> str:
        """Of the body, without parameters (RFC 9110 section 8.3.1)."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def field(self, name: str) -> str | None:
        """The first form field of that name."""
        return next((value for key, value in self.form if key == name), None)

    def required(self, name: str) -> str:
        """The form field of that name.

        Raises:
            Refused: it is missing or empty.
        """
        if not (value := self.field(name)):
            raise Refused("invalid_request", why=f"{name} is missing")
        return value


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answers: JSON, a page, or the way back to a client.

    Args:
        fields: the members of the JSON, or the parameters of the redirect.
        page: HTML, in the place of JSON.
        location: the redirect_uri, to which ``fields`` are added.
    """

    fields: Mapping[str, object] = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    page: str | None = None
    location: str | None = None


class Refused(Exception):
    """The provider's own error answer (RFC 6749 section 5.2).

    Args:
        why: told as ``error_description``.
        headers: those that belong to the refusal, such as a challenge.
    """

    def __init__(
        self, error: str, status: int = 400, *, why: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{error}: {why}" if why else error)
        self.error = error
        self.status = status
        self.why = why
        self.headers = headers or {}

    def because(self, why: str) -> Refused:
        """The same refusal with its reason."""
        return Refused(self.error, self.status, why=why, headers=self.headers)

    @property
    def reply(self) -> Reply:
        fields = {"error": self.error, "error_description": self.why or "scripted by no one"}
        return Reply(fields, self.status, self.headers)
