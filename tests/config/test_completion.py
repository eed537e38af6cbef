"""What a preset fills in, what the user's own keys do to it, and what is said when a part is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.config import load

if TYPE_CHECKING:
    from sidecar.config.model import Credential
    from tests.config.conftest import Messages

HEAD = "listeners: [{name: a, bind: 127.0.0.1:6180}]\ncredentials:\n  orders:\n"
ENTRA = ("provider: entra_id", "client_id: id", "client_secret: env:SECRET", "scopes: [api/.default]")
TENANT = "provider_params: {tenant: contoso.onmicrosoft.com}"


def text(*lines: str) -> str:
    """A configuration whose credential's keys start in line 4."""
    return HEAD + "".join(f"    {line}\n" for line in lines)


def completed(*lines: str) -> Credential:
    return load.parse(text(*lines), "config.yaml").credentials["orders"]


def test_a_preset_of_four_lines_is_a_whole_credential() -> None:
    credential = completed(*ENTRA, TENANT)
    assert credential.grant == "client_credentials"
    assert credential.token_url == "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"
    assert credential.client_auth == "client_secret_post"


def test_what_stands_in_the_file_wins_over_the_preset() -> None:
    credential = completed(*ENTRA, TENANT, "client_auth: client_secret_basic", "dialect: {unauthorized: any}")
    assert credential.client_auth == "client_secret_basic"
    assert credential.dialect.unauthorized == "any"


def test_an_unknown_provider_is_named_with_the_likely_one(messages: Messages) -> None:
    assert messages(text("provider: entra_ip", *ENTRA[1:])) == [
        "4: 'provider': this provider has no preset; did you mean 'entra_id'?"
    ]


def test_a_parameter_that_is_missing_is_named_with_its_meaning(messages: Messages) -> None:
    assert messages(text(*ENTRA)) == [
        "3: provider entra_id needs 'provider_params.tenant': the directory's id or domain"
    ]


def test_a_parameter_that_the_preset_has_not_is_an_error(messages: Messages) -> None:
    assert messages(text(*ENTRA, "provider_params: {tenant: a, tenent: b}")) == [
        "8: provider entra_id has no such parameter: it has tenant or host; did you mean 'tenant'?"
    ]
    assert messages(text("grant: static", "token: env:TOKEN", "provider_params: {a: b}")) == [
        "6: 'provider_params' needs a 'provider'"
    ]


def test_a_parameter_of_what_the_file_says_itself_is_not_needed() -> None:
    credential = completed(*ENTRA, "token_url: https://login.example.com/token")
    assert credential.token_url == "https://login.example.com/token"


WORKLOAD = ("provider: entra_id_workload", "scopes: [api/.default]")
SET = {"AZURE_TENANT_ID": "contoso", "AZURE_CLIENT_ID": "app", "AZURE_FEDERATED_TOKEN_FILE": "/var/run/token"}


def test_a_platform_says_the_parameters_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SET.items():
        monkeypatch.setenv(name, value)
    credential = completed(*WORKLOAD)
    assert credential.client_id == "app"
    assert credential.assertion_file == "/var/run/token"
    assert credential.token_url == "https://login.microsoftonline.com/contoso/oauth2/v2.0/token"
    assert completed(*WORKLOAD, "provider_params: {tenant: other}", "client_id: mine").client_id == "mine"


def test_without_that_environment_all_that_is_missing_is_named(
    messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SET:
        monkeypatch.delenv(name, raising=False)
    found = messages(text(*WORKLOAD))
    assert found[0] == (
        "3: provider entra_id_workload needs 'provider_params.tenant', or $AZURE_TENANT_ID in the environment: "
        "the directory's id or domain"
    )
    assert len(found) == 3


def test_of_two_keys_that_exclude_each_other_the_file_s_is_the_one() -> None:
    params = "provider_params: {tenant: a, client_id: b}"
    credential = completed(*WORKLOAD, params, "assertion: env:ID_TOKEN")
    assert credential.assertion_file is None
    assert str(credential.assertion) == "env:ID_TOKEN"
    assert completed("provider: kubernetes_file", "token: env:TOKEN").token_file is None


def test_a_parameter_may_stand_in_the_name_of_a_secret() -> None:
    assert str(completed("provider: gitlab_ci").token) == "env:ID_TOKEN"
    assert str(completed("provider: gitlab_ci", "provider_params: {variable: API_TOKEN}").token) == "env:API_TOKEN"


def test_what_the_provider_cannot_do_without_is_an_error_when_it_is_missing(messages: Messages) -> None:
    assert messages(text(*ENTRA[:3], TENANT)) == ["3: provider entra_id needs the key 'scopes'"]


def test_the_file_adds_to_what_the_preset_asks_for() -> None:
    credential = completed(
        "provider: github_app",
        "client_id: Iv1",
        "private_key: env:KEY",
        'provider_params: {installation_id: "7"}',
        "token_params: {repositories: [orders]}",
        "refresh: {at: 0.5}",
        "dialect: {headers: {Accept: application/json}}",
    )
    assert credential.token_params == {"repositories": ("orders",)}
    assert credential.dialect.headers == {"Accept": "application/json"}
    assert credential.dialect.token_field == "token"


@pytest.mark.parametrize("value", ["evil.example/x", "a@b", "a?b", "..//", "a b", "a#b"])
def test_no_parameter_leads_to_another_place(value: str, messages: Messages) -> None:
    found = messages(text(*ENTRA, f'provider_params: {{tenant: "{value}"}}'))
    assert found == ["8: 'tenant': the directory's id or domain is wanted here, such as contoso.onmicrosoft.com"]


def test_the_authentication_follows_from_what_is_given() -> None:
    basic = completed(
        "grant: client_credentials", "token_url: https://a.example", "client_id: a", "client_secret: env:S"
    )
    assert basic.client_auth == "client_secret_basic"
    public = completed("grant: token_exchange", "token_url: https://a.example", "subject_token: env:S")
    assert public.client_auth == "none"
