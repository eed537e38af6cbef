"""What serves nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.preflight.kinds import Kind
from sidecar.preflight.lints import usage
from tests.broker.store_kit import grant, open_store
from tests.config.conftest import VALID
from tests.preflight.kit import sentences, told

if TYPE_CHECKING:
    from pathlib import Path


def test_a_credential_without_a_route_is_mentioned() -> None:
    assert told(usage.credentials, VALID) == []
    assert told(usage.credentials, VALID[: VALID.index("routes:")]) == [(Kind.UNUSED_CREDENTIAL, "credentials.orders")]


def test_a_stored_grant_without_a_credential_is_mentioned(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for name in ("orders", "old/one"):
        store.write(name, grant())
    text = VALID + f"store: {{path: {store.path}, key: 'file:{tmp_path}/store-key'}}\n"

    assert told(usage.grants, text) == [(Kind.UNUSED_GRANT, "store.path")]
    assert "a grant of old/one," in sentences(usage.grants, text)[0]


def test_a_store_that_is_not_there_yet_has_no_grants(tmp_path: Path) -> None:
    assert told(usage.grants, VALID) == []
    assert told(usage.grants, VALID + f"store: {{path: {tmp_path}/none, key: env:KEY}}\n") == []
