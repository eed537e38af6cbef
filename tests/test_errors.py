"""The error tree: every leaf answers the same questions, from closed sets of words."""

from __future__ import annotations

import re

import pytest

from sidecar import errors
from sidecar.errors import Fault, SidecarError, leaves
from sidecar.telemetry.metrics import Metrics

# The contract's statuses of the sidecar's own answers; never 401, which would start the app's own OAuth.
STATUSES = {400, 403, 407, 408, 413, 414, 417, 431, 500, 501, 502, 503, 504, 505, 508}
ADMIN_STATUSES = {401, 403, 404, 405, 502}
UPSTREAM_REASONS = {"dns", "connect", "tls", "timeout", "reset", "protocol"}
TOKEN_REASONS = {
    "invalid_client",
    "invalid_grant",
    "invalid_scope",
    "unauthorized_client",
    "rate_limited",
    "server_error",
    "timeout",
    "dns",
    "connect",
    "tls",
    "malformed",
    "refused",
}
EXIT_CODES = {"usage": 2, "configuration_invalid": 3, "secret_missing": 4, "login_needed": 6}
EXIT_CODES |= {"store_unusable": 3, "store_locked": 8, "cannot_bind": 8}


def tree(root: type[SidecarError] = SidecarError) -> list[type[SidecarError]]:
    """The classes of ``errors.py``; what other modules derive from them says nothing new about reasons."""
    children = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(each for child in children for each in tree(child))]


LEAVES = [each for each in tree() if len(tree(each)) == 1]


def under(family: type[SidecarError]) -> list[type[SidecarError]]:
    return [leaf for leaf in LEAVES if issubclass(leaf, family)]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_every_leaf_answers_its_questions(leaf: type[SidecarError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", leaf.reason)
    assert leaf.title[0].isupper()
    assert not leaf.title.endswith(".")
    assert isinstance(leaf.fault, Fault)
    assert isinstance(leaf.retryable, bool)
    assert leaf.status in (ADMIN_STATUSES if issubclass(leaf, errors.AdminError) else STATUSES | {0})


def test_every_leaf_has_a_reason_and_a_title_of_its_own() -> None:
    for leaf in LEAVES:
        assert "reason" in vars(leaf), leaf
        assert "title" in vars(leaf), leaf
    titles = [leaf.title for leaf in LEAVES]
    assert len(titles) == len(set(titles))


def test_class_names_are_unique() -> None:
    names = [each.__name__ for each in tree()]

    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "family",
    [errors.ClientError, errors.Denied, errors.UpstreamError, errors.TokenRequestError],
    ids=lambda family: family.__name__,
)
def test_reasons_are_unique_within_a_family(family: type[SidecarError]) -> None:
    reasons = [leaf.reason for leaf in under(family)]

    assert len(reasons) == len(set(reasons))


def test_only_the_two_ends_share_words() -> None:
    """One word in a log line names one error; upstream and IdP have counters of their own."""
    own = [leaf.reason for leaf in LEAVES if not issubclass(leaf, errors.UpstreamError | errors.TokenRequestError)]

    assert len(own) == len(set(own))
    assert not set(own) & (UPSTREAM_REASONS | TOKEN_REASONS)


def test_the_words_of_the_contract_are_the_words_of_the_tree() -> None:
    assert {leaf.reason for leaf in under(errors.UpstreamError)} == UPSTREAM_REASONS
    assert {leaf.reason for leaf in under(errors.TokenRequestError)} == TOKEN_REASONS


def test_the_metrics_have_a_child_for_every_reason() -> None:
    metrics = Metrics()

    assert {leaf.reason for leaf in under(errors.Denied)} <= set(metrics.denied)
    assert {leaf.reason for leaf in under(errors.UpstreamError)} == set(metrics.route("r", None).upstream_errors)
    assert {leaf.reason for leaf in under(errors.TokenRequestError)} < set(metrics.credential("c").requests)


def test_errors_that_end_the_process_have_the_exit_code_of_the_contract() -> None:
    assert {leaf.reason: leaf.exit_code for leaf in under(errors.StartupError)} == EXIT_CODES
    assert {leaf.exit_code for leaf in under(errors.TransientTokenError)} == {5}
    assert {leaf.exit_code for leaf in under(errors.TerminalTokenError)} == {6}
    ending = errors.StartupError | errors.TokenRequestError
    assert {leaf.exit_code for leaf in LEAVES if not issubclass(leaf, ending)} == {0}


def test_what_becomes_an_answer_has_a_status_and_what_does_not_has_none() -> None:
    answers = (errors.ClientError, errors.Denied, errors.UpstreamError, errors.TokenUnavailable, errors.Overloaded)

    assert all(leaf.status for family in answers for leaf in under(family))
    assert not any(leaf.status for leaf in under(errors.StartupError) + under(errors.TokenRequestError))


def test_no_token_is_503_and_worth_another_try() -> None:
    error = errors.TokenUnavailable("no valid token of orders", retry_after_seconds=2.5)

    assert (error.status, error.retryable, error.retry_after_seconds) == (503, True, 2.5)


@pytest.mark.parametrize(
    ("family", "status"),
    [(errors.UpstreamError, {502, 504}), (errors.Denied, {403, 407, 508}), (errors.Overloaded, {503})],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_family_has_its_statuses(family: type[SidecarError], status: set[int]) -> None:
    assert {leaf.status for leaf in under(family)} == status


def test_whose_fault_an_error_is() -> None:
    assert {leaf.fault for leaf in under(errors.ClientError)} == {Fault.CLIENT}
    assert {leaf.fault for leaf in under(errors.UpstreamError)} == {Fault.UPSTREAM}
    assert {leaf.fault for leaf in under(errors.TransientTokenError)} == {Fault.IDP}
    assert {leaf.fault for leaf in under(errors.TerminalTokenError)} == {Fault.OPERATOR}
    assert {leaf.fault for leaf in under(errors.StartupError)} == {Fault.OPERATOR}


def test_terminal_token_errors_are_those_that_a_retry_does_not_help() -> None:
    for leaf in under(errors.TokenRequestError):
        assert issubclass(leaf, errors.TokenRequestError)
        assert leaf.terminal is not leaf.retryable


def test_an_error_carries_its_detail_and_what_the_idp_said() -> None:
    error = errors.RateLimited("asked too often", retry_after_seconds=7, oauth_error="slow_down", http_status=429)

    assert str(error) == error.detail == "asked too often"
    assert (error.retry_after_seconds, error.oauth_error, error.http_status) == (7, "slow_down", 429)


def test_leaves_are_in_the_order_of_the_file() -> None:
    assert leaves(errors.UpstreamError)[0] is errors.UpstreamDNS
    assert leaves(errors.CannotBind) == [errors.CannotBind]
    assert {leaf.reason for leaf in leaves()} == {leaf.reason for leaf in LEAVES}
