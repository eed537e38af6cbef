"""Who owns a stored grant, seen from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.errors import StoreUnusable
from tests.broker.store_kit import open_store, other_process, said_by

if TYPE_CHECKING:
    from pathlib import Path


def test_whether_a_grant_is_owned_can_be_seen_without_becoming_its_owner(tmp_path: Path) -> None:
    store = open_store(tmp_path)

    assert not store.is_owned("orders")
    assert not store.path.exists()
    with store.own("orders"):
        assert store.is_owned("orders")
        assert not store.is_owned("billing")
    assert not store.is_owned("orders")
    store.own("orders").close()


def test_another_process_that_owns_it_is_seen(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    code = "with store.own('orders'):\n    print('owned', flush=True)\n    input()\n"
    process = other_process(tmp_path, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "owned\n"

    assert store.is_owned("orders")
    assert process.stdin is not None
    process.stdin.write("\n")
    assert said_by(process) == ""
    assert not store.is_owned("orders")


def test_a_link_in_its_place_is_no_owner(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.path.mkdir()
    (store.path / "orders.grant.owner").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreUnusable):
        store.is_owned("orders")
