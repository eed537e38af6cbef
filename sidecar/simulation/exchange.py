"""One request to the provider as it came in, what it is answered, and the refusals of RFC 6749 section 5.2.

What a request may have is the business of the endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Form = list[tuple[str, str]]


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

    def field(self, name: str) -> str | None:
        """The first form field of that name."""
        return next((value for key, value in self.form if key == name), None)

    def required(self, name: str) -> str:
        """The form field of that name.

        Raises:
            Refused: it is missing or empty.
        """
        if not (value := self.field(name)):
            raise Refused("invalid_request")
        return value


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answers: JSON, or a page."""

    fields: Mapping[str, object] = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    page: str | None = None


class Refused(Exception):
    """The provider's own error answer (RFC 6749 section 5.2).

    Args:
        headers: those that belong to the refusal, such as a challenge.
        fields: further fields of the answer.
    """

    def __init__(
        self,
        error: str,
        status: int = 400,
        *,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(error)
        self.error = error
        self.status = status
        self.headers = headers or {}
        self.fields = fields or {}

    @property
    def reply(self) -> Reply:
        told = {"error": self.error, "error_description": "scripted by no one", **self.fields}
        return Reply(told, self.status, self.headers)
