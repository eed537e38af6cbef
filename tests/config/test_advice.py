"""What is allowed and yet worth a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sidecar.config import advice, load
from tests.config import authorities
from tests.config.conftest import VALID

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec


def warnings(text: str) -> list[str]:
    return advice.warnings(load.parse(text, "config.yaml"))


def test_a_sound_configuration_gives_no_warning() -> None:
    assert warnings(VALID) == []


def test_a_credential_without_a_route_is_mentioned() -> None:
    assert warnings(VALID[: VALID.index("routes:")]) == ["credentials.orders: no route uses it"]


def test_a_required_scope_that_is_not_asked_for_is_mentioned() -> None:
    text = VALID.replace("    client_id", "    scopes: [a]\n    required_scopes: [a, b]\n    client_id")

    assert warnings(text) == ["credentials.orders.required_scopes: not in scopes: b"]


def test_a_route_that_fails_open_is_mentioned() -> None:
    assert warnings(VALID + "    on_failure: open\n") == [
        "routes: api.example.com:443 forwards requests without a token when there is none (on_failure: open)"
    ]


def test_inline_secrets_are_mentioned() -> None:
    assert warnings("allow_inline_secrets: true\n" + VALID) == [
        "allow_inline_secrets: whoever reads the configuration reads its secrets"
    ]


def test_a_secret_that_crosses_the_network_is_mentioned() -> None:
    auth = "\n    auth: {proxy_password: env:PASSWORD}"

    assert warnings(VALID.replace("127.0.0.1:6180", "0.0.0.0:6180" + auth)) == [
        "listeners.egress.auth: beyond loopback it travels over http, readable by all on the way"
    ]
    assert warnings(VALID.replace("127.0.0.1:6180", "127.0.0.1:6180" + auth)) == []


def test_an_admin_token_that_crosses_the_network_is_mentioned() -> None:
    admin = "admin: {bind: 0.0.0.0:6182, token: env:ADMIN}\n"

    assert warnings(VALID + admin) == [
        "admin.token: beyond loopback it and the tokens travel over http, readable by all on the way"
    ]
    assert warnings(VALID + admin.replace("0.0.0.0", "127.0.0.1")) == []


@pytest.mark.parametrize(("mode", "danger"), [(0o644, "read"), (0o666, "changed"), (0o602, "changed")])
def test_a_secret_file_that_is_open_to_every_user_is_mentioned(tmp_path: Path, mode: int, danger: str) -> None:
    path = tmp_path / "secret"
    path.write_text("hunter2")
    path.chmod(mode)

    assert warnings(VALID.replace("/run/secrets/orders", str(path))) == [
        f"credentials.orders.client_secret: file:{path} can be {danger} by every user of this machine"
    ]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o440])
def test_a_secret_file_for_its_owner_and_group_is_fine(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text("hunter2")
    path.chmod(mode)

    assert warnings(VALID.replace("/run/secrets/orders", str(path))) == []


def test_a_volume_of_kubernetes_is_fine_as_it_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "..2026_11_22").mkdir()
    (tmp_path / "..data").symlink_to("..2026_11_22")
    (tmp_path / "..data" / "secret").write_text("hunter2")
    (tmp_path / "..data" / "secret").chmod(0o644)
    (tmp_path / "secret").symlink_to("..data/secret")

    assert warnings(VALID.replace("/run/secrets/orders", str(tmp_path / "secret"))) == []


def test_a_missing_secret_is_no_matter_of_advice() -> None:
    assert warnings(VALID.replace("/run/secrets/orders", "/nowhere/at/all")) == []


def intercepting(tmp_path: Path, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> str:
    files = authorities.write(tmp_path, key, *chain)
    return VALID + f"    intercept: true\ninterception: {{certificate: {files[0]}, key: 'file:{files[1]}'}}\n"


def test_a_sound_local_ca_gives_no_warning(tmp_path: Path) -> None:
    key = authorities.new_key()

    assert warnings(intercepting(tmp_path, key, *authorities.constrained(key))) == []


def test_a_local_ca_without_a_route_is_mentioned(tmp_path: Path) -> None:
    key = authorities.new_key()
    text = intercepting(tmp_path, key, *authorities.constrained(key)).replace("intercept: true", "intercept: false")

    assert warnings(text) == ["interception: no route has intercept: true"]


def test_a_local_ca_that_can_sign_for_every_host_is_mentioned(tmp_path: Path) -> None:
    key = authorities.new_key()
    certificate = authorities.bare(key, x509.BasicConstraints(ca=True, path_length=0), algorithm=hashes.SHA256())

    assert warnings(intercepting(tmp_path, key, certificate)) == [
        "interception.certificate: this CA can sign for every host; 'sidecar ca' makes one that cannot"
    ]


def test_a_local_ca_that_ends_soon_is_mentioned(tmp_path: Path) -> None:
    key = authorities.new_key()
    chain = authorities.constrained(key, days=29)

    day = f"{chain[0].not_valid_after_utc:%Y-%m-%d}"
    assert warnings(intercepting(tmp_path, key, *chain)) == [
        f"interception.certificate: the CA expires on {day}: make a new one with 'sidecar ca --force'"
    ]
    assert warnings(intercepting(tmp_path, key, *authorities.constrained(key, days=31))) == []


def test_a_local_ca_that_is_gone_by_now_is_no_advice(tmp_path: Path) -> None:
    key = authorities.new_key()
    configuration = load.parse(intercepting(tmp_path, key, *authorities.constrained(key)), "config.yaml")
    (tmp_path / "ca.pem").unlink()

    assert advice.warnings(configuration) == []


def test_a_simulation_is_mentioned_and_that_it_needs_the_admin_token() -> None:
    text = VALID + "simulation: {enabled: true}\n"
    assert warnings(text) == ["simulation.enabled: without admin.token nobody can use it: leave it out"]
    assert warnings(text + "admin: {token: env:ADMIN_TOKEN}\n") == [
        "simulation.enabled: whoever has the admin token can expire tokens at will; not for production"
    ]
    assert warnings(VALID + "simulation: {enabled: false}\n") == []
