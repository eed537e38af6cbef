"""What a scenario file says: the life of tokens, what happens when, the traffic, and what is expected of it.

Only the typed model; ``reading`` turns YAML into it, as strictly as the configuration is read. Durations are seconds.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from sidecar.config.model import Duration, Model, Name, Pause, Text
from sidecar.simulation.catalogue import FAULTS, Fault, Value

Rate = Annotated[float, msgspec.Meta(ge=0.0, le=1000.0)]
"""Requests per second."""
Most = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]

OWN_EVENTS: Final = {
    fault.name: fault
    for fault in (
        Fault(
            name="expire",
            meaning="once: the sidecar takes its token to be at its end now",
            example="expire",
            lasts=False,
        ),
        Fault(
            name="refresh",
            meaning="once: the sidecar asks for a new token, whether or not one is due",
            example="refresh",
            lasts=False,
        ),
        Fault(
            name="rotate_secret",
            meaning="once: the IdP takes new secrets and no old ones, and the sidecar's files have them so much later "
            "(without a value at once)",
            example="rotate_secret=3s",
            value=Value.OPTIONAL,
            lasts=False,
        ),
    )
}
"""Events that are more than a fault of the provider."""
EVENTS: Final = {**OWN_EVENTS, **FAULTS}
REMOTE_EVENTS: Final = frozenset({"expire", "refresh", "revoke"})
"""Those that a running sidecar can be asked for, beside whatever its own IdP does."""

UPSTREAM_401: Final = "upstream_401"
NO_ANSWER: Final = "no_answer"


class Traffic(Model, frozen=True, kw_only=True):
    """The requests that an app would make meanwhile: to each route so many a second."""

    rate: Rate = 20.0
    routes: tuple[Name, ...] = ()


class Step(Model, frozen=True, kw_only=True):
    """One thing that happens, so long after the start: an ``event``, or the ``end`` of one."""

    at: Pause
    event: Text | None = None
    end: Text | None = None
    credential: Name | None = None


class Expectation(Model, frozen=True, kw_only=True):
    """What has to hold at the end."""

    failed: Most = 0
    reasons: tuple[Name, ...] = ()
    recovered_within: Duration | None = None
    refreshes: Most = 0


class Scenario(Model, frozen=True, kw_only=True):
    """The whole file."""

    description: Text
    duration: Duration
    ttl: Duration = 20.0
    traffic: Traffic = Traffic()
    steps: tuple[Step, ...] = ()
    expect: Expectation = Expectation()


MEANINGS: Final = {
    "description": "one sentence: what is shown",
    "duration": "how long it takes; `at` counts from its start, which is when every credential has a token",
    "ttl": "how long access tokens live: a day of token life in less than a minute",
    "traffic.rate": "requests a second to each route; with 0 only the credentials are looked at",
    "traffic.routes": "labels of the routes that are called; none are all",
    "steps[].at": "when",
    "steps[].event": "what happens: an event of the table below, as it is written there",
    "steps[].end": "the name of an event that ends here; not beside `event`",
    "steps[].credential": "the credential whose IdP or token it happens to; none are all",
    "expect.failed": "at most so many requests fail",
    "expect.reasons": "and only for these reasons: `token_unavailable` and others of the sidecar, `upstream_401` (the "
    "API refused the token), `no_answer`",
    "expect.recovered_within": "after the last event has ended, requests go well again within this time",
    "expect.refreshes": "each credential gets at least so many new tokens",
}
"""What each key means; the documentation prints it beside the model."""
