"""TLS interception in the configuration: what has to go together, and a CA that can serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.config import load
from sidecar.config.files import read_once
from sidecar.config.interception import intercepted_hosts
from sidecar.errors import SecretMissing
from tests.config import authorities
from tests.config.conftest import VALID, Messages

if TYPE_CHECKING:
    from pathlib import Path

INTERCEPTING = VALID + "    intercept: true\n"
ABSENT = "interception: {certificate: /absent/ca.pem, key: file:/absent/ca-key.pem}\n"


def section(files: tuple[Path, Path]) -> str:
    return f"interception:\n  certificate: {files[0]}\n  key: file:{files[1]}\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A CA for api.example.com."""
    key = authorities.new_key()
    return authorities.write(tmp_path, key, *authorities.constrained(key))


def errors(text: str) -> list[str]:
    """The errors that need no file."""
    try:
        load.parse(text, "config.yaml", check_files=False)
    except load.ConfigurationErrors as exc:
        return [f"{problem.span.line + 1 if problem.span else 0}: {problem.message}" for problem in exc.problems]
    return []


# --- across keys ---


def test_a_route_intercepts_with_the_section(files: tuple[Path, Path]) -> None:
    configuration = load.parse(INTERCEPTING + section(files), "config.yaml")

    assert configuration.routes[0].intercept
    assert intercepted_hosts(configuration) == ["api.example.com"]
    assert read_once(configuration) == list(files)


def test_without_the_section_there_is_nothing_to_watch() -> None:
    configuration = load.parse(VALID, "config.yaml")

    assert intercepted_hosts(configuration) == []
    assert read_once(configuration) == []


@pytest.mark.parametrize("rest", ["", "interception: null\n"])
def test_a_route_that_intercepts_needs_the_section(rest: str) -> None:
    assert errors(INTERCEPTING + rest) == [
        "13: 'intercept: true' needs the section 'interception' with the files of a local CA"
    ]


def test_a_section_that_is_broken_is_one_error() -> None:
    assert errors(INTERCEPTING + "interception: {certificate: ca.pem, key: 'S3cr3t'}\n") == [
        "14: 'key': a secret is named, not written here: use file:PATH, env:NAME or cred:NAME"
    ]


def test_nothing_is_intercepted_towards_a_plain_upstream() -> None:
    assert errors(INTERCEPTING + "    upstream_tls: plain\n" + ABSENT) == [
        "13: 'intercept: true' has no use with upstream_tls: plain: no TLS leaves here"
    ]


def test_routes_of_one_host_and_port_agree() -> None:
    second = "  - {host: api.example.com, paths: [/v1/], credential: orders}\n"

    assert errors(INTERCEPTING + second + ABSENT) == [
        "14: the route in line 11 has the same host and port, so both have the same 'intercept'"
    ]
    assert errors(INTERCEPTING + second.replace("credential", "intercept: false, credential") + ABSENT) == [
        "14: the route in line 11 has the same host and port, so both have the same 'intercept'"
    ]
    assert errors(INTERCEPTING + second.replace("credential", "intercept: true, credential") + ABSENT) == []
    assert errors(INTERCEPTING + second.replace("paths: [/v1/]", "port: 8443") + ABSENT) == []


@pytest.mark.parametrize("reference", ["env:CA_KEY", "S3cr3t"])
def test_the_key_is_a_file(reference: str) -> None:
    text = INTERCEPTING + f"allow_inline_secrets: true\ninterception:\n  certificate: ca.pem\n  key: {reference}\n"

    assert errors(text) == ["17: 'key': the permissions of a CA's key are checked, so it is file:PATH or cred:NAME"]


def test_hosts_are_told_once() -> None:
    text = INTERCEPTING + "    paths: [/v1/]\n"
    text += "  - {host: api.example.com, intercept: true, credential: orders}\n"
    text += "  - {host: '*.example.org', intercept: true, credential: orders}\n"
    text += "  - {host: plain.example.net, credential: orders}\n"

    assert intercepted_hosts(load.parse(text + ABSENT, "config.yaml", check_files=False)) == [
        "api.example.com",
        "*.example.org",
    ]


# --- the files ---


def test_a_certificate_that_cannot_be_used_is_an_error_where_it_is_named(
    files: tuple[Path, Path], messages: Messages
) -> None:
    files[0].write_text("hello")

    assert messages(INTERCEPTING + section(files)) == [
        "15: 'certificate': the file holds no certificate in PEM form that can be read"
    ]


def test_a_key_with_open_permissions_is_an_error_that_says_what_to_do(
    files: tuple[Path, Path], messages: Messages
) -> None:
    files[1].chmod(0o640)

    assert messages(INTERCEPTING + section(files)) == [
        f"16: 'key': {files[1]} has mode 0640, but a CA's key is for its owner alone: chmod 600 {files[1]}"
    ]


def test_a_key_of_another_certificate_is_an_error(files: tuple[Path, Path], tmp_path: Path, messages: Messages) -> None:
    other = tmp_path / "other"
    other.mkdir()
    key = authorities.new_key()
    _, foreign = authorities.write(other, key, *authorities.constrained(key))

    assert messages(INTERCEPTING + section((files[0], foreign))) == [
        "16: 'key': it belongs to another certificate than 'certificate'"
    ]


def test_everything_that_is_wrong_with_the_files_is_told_at_once(tmp_path: Path, messages: Messages) -> None:
    key = authorities.new_key()
    files = authorities.write(tmp_path, key, *authorities.constrained(key, ["other.example"], made_days_ago=366))
    files[1].write_text("hello")

    found = messages(INTERCEPTING + section(files))

    assert [message.partition(": ")[0] for message in found] == ["11", "15", "16"]
    assert found[0] == "11: the local CA does not cover api.example.com: renew it with 'sidecar ca --force'"
    assert found[1].startswith("15: 'certificate': the CA expired on ")
    assert found[1].endswith(": make a new one with 'sidecar ca --force'")
    assert found[2] == "16: 'key': the file holds no private key in PEM form"


def test_only_intercepted_hosts_have_to_be_covered(files: tuple[Path, Path], messages: Messages) -> None:
    text = INTERCEPTING + "  - {host: plain.example.net, credential: orders}\n"

    assert messages(text + section(files)) == []


def test_a_missing_key_is_told_with_the_missing_secrets(files: tuple[Path, Path]) -> None:
    files[1].unlink()
    text = (INTERCEPTING + section(files)).replace("file:/run/secrets/orders", f"file:{files[0]}")

    with pytest.raises(SecretMissing, match=r"interception\.key: file:.*: No such file or directory"):
        load.missing_secrets(load.parse(text, "config.yaml"))
