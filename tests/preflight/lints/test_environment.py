"""Addresses of another environment, and those that only look like it."""

from __future__ import annotations

import pytest

from sidecar.preflight.kinds import Kind
from sidecar.preflight.lints.environment import environments, environments_of, lint
from tests.config.conftest import VALID
from tests.preflight.kit import sentences, told, with_credential

TOKEN_URL = "https://idp.example.com/oauth2/token"


def declared(environment: str, text: str = VALID) -> str:
    return f"environment: {environment}\n{text}"


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ("production", "https://idp.staging.example.com/token"),
        ("production", "https://idp-stg.example.com/token"),
        ("production", "https://uat-idp.example.com/token"),
        ("production", "https://idp.example.com/realms/acme-test/token"),
        ("production", "https://idp.example.com/sandbox/token"),
        ("production", "https://idp.pre-prod.example.com/token"),
        ("production", "https://idp.nonprod.example.com/token"),
        ("production", "https://idp.staging.svc:8443/token"),
        ("production", "https://idp.qa2.example.co.uk/token"),
        ("prod", "https://test.salesforce.com/services/oauth2/token"),
        ("staging", "https://idp.prod.example.com/token"),
        ("uat", "https://idp.dev.example.com/token"),
        ("eu-dev-1", "https://live.idp.example.com/token"),
        ("sandbox", "https://idp.preprod.example.com/token"),
    ],
)
def test_an_address_of_another_environment_is_mentioned(environment: str, address: str) -> None:
    text = declared(environment, VALID.replace(TOKEN_URL, address))

    assert told(lint, text) == [(Kind.ENVIRONMENT_MISMATCH, "credentials.orders.token_url")]


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ("production", "https://idp.example.com/token"),
        ("production", "https://idp.prod.example.com/token"),
        ("production", "https://latest.example.com/token"),
        ("production", "https://contest.idp.example.com/devices/testament"),
        ("production", "https://example.dev/token"),
        ("production", "https://idp.example.test/token"),
        ("production", "https://dev.azure.com/acme/token"),
        ("production", "https://production.staging-migration.example.com/token"),
        ("production", "https://uat.co.uk/token"),
        ("staging", "https://login.live.com/token"),
        ("staging", "https://delivery.example.com/reproduction/token"),
        ("staging", "https://stage.example.com/token"),
        ("development", "https://sandbox.example.com/token"),
        ("pre-prod", "https://idp.preprod.example.com/token"),
        ("production", "https://10.0.0.1/token"),
    ],
)
def test_an_address_that_only_looks_like_one_is_not(environment: str, address: str) -> None:
    assert told(lint, declared(environment, VALID.replace(TOKEN_URL, address))) == []


@pytest.mark.parametrize(
    "audience",
    ["https://api.staging.example.com", "api://orders-staging", "orders-staging", "staging/orders", "urn:acme:staging"],
)
def test_an_audience_is_held_against_it_whatever_its_form(audience: str) -> None:
    text = declared("production", with_credential(f"audience: {audience}"))

    assert told(lint, text) == [(Kind.ENVIRONMENT_MISMATCH, "credentials.orders.audience")]


def test_a_scope_that_names_an_api_is_held_against_it() -> None:
    text = declared("production", with_credential("scopes: [read, test, 'https://api.staging.example.com/.default']"))

    assert told(lint, text) == [(Kind.ENVIRONMENT_MISMATCH, "credentials.orders.scopes[2]")]


def test_the_hosts_of_upstreams_are_held_against_it() -> None:
    text = declared("production", VALID.replace("api.example.com", "api.staging.example.com"))

    assert sentences(lint, text) == ["routes[0].host: it says staging, and the environment is production"]
    assert "'stg' in it says staging" in sentences(lint, text.replace("api.staging", "api.stg"))[0]


def test_the_upstream_of_a_reverse_listener_is_mentioned_where_no_route_has_its_host() -> None:
    listener = "  - {name: api, mode: reverse, bind: 127.0.0.1:6190, upstream: 'https://api.staging.example.com'}\n"
    text = declared("production", VALID.replace("credentials:", f"{listener}credentials:"))

    assert told(lint, text.replace("host: api.example.com", "host: '*.example.com'")) == [
        (Kind.ENVIRONMENT_MISMATCH, "listeners[1].upstream")
    ]
    assert told(lint, text.replace("host: api.example.com", "host: api.staging.example.com")) == [
        (Kind.ENVIRONMENT_MISMATCH, "routes[0].host")
    ]


@pytest.mark.parametrize("environment", ["blue", "prod-or-test"])
def test_an_environment_of_no_known_kind_is_a_note(environment: str) -> None:
    assert told(lint, declared(environment)) == [(Kind.ENVIRONMENT_UNKNOWN, "environment")]


def test_without_an_environment_addresses_of_two_are_a_note() -> None:
    mixed = VALID.replace("idp.example.com", "idp.staging.example.com").replace("api.example", "api.prod.example")

    assert told(lint, mixed) == [(Kind.ENVIRONMENTS_MIXED, "routes[0].host")]
    assert told(lint, mixed.replace("api.prod", "api.stg")) == []
    assert told(lint, VALID) == []


def test_words_are_whole() -> None:
    assert environments("live-prod") == environments("live.prod") != {}
    assert environments("alive reproduced liveness") == {}
    assert environments_of("https://api.example.com/") == {}
