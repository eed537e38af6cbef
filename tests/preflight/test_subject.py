"""What is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.preflight.subject import Machine, Surroundings, mount_points
from tests.preflight.kit import subject

if TYPE_CHECKING:
    from pathlib import Path


MOUNTINFO = """\
36 35 98:0 / / rw,noatime master:1 - ext3 /dev/root rw,errors=continue
40 36 0:25 / /run/secrets rw - tmpfs tmpfs rw
41 36 8:1 /pods/1/secret/with\\040blank /etc/app/with\\040blank ro - ext4 /dev/sda1 rw
half a line
"""

TWO = """\
listeners: [{name: egress, bind: 127.0.0.1:6180}]
credentials:
  a: {grant: static, token: env:A}
  b: {grant: static, token: env:B}
routes:
  - {host: a.example.com, credential: a}
  - {host: b.example.com, credential: b}
"""


def test_mount_points_are_read_without_their_escapes() -> None:
    assert mount_points(MOUNTINFO) == {"/", "/run/secrets", "/etc/app/with blank"}


def test_this_machine_has_a_root() -> None:
    assert "/" in Machine.here().mounts


def test_a_machine_without_proc_has_no_mounts_to_see(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sidecar.preflight.subject.MOUNTS", tmp_path / "none")
    assert Machine.here().mounts == frozenset()


def test_a_link_to_a_file_that_is_a_mount_counts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    machine = Machine(0.0, frozenset({str(tmp_path), str(tmp_path / "file")}))

    assert machine.is_mount(tmp_path / "link")
    assert not machine.is_mount(tmp_path)
    assert not machine.is_mount(tmp_path / "other")


def test_everything_is_asked_for_unless_some_are_named() -> None:
    every = subject(TWO)
    assert [name for _, name, _ in every.credentials()] == ["a", "b"]
    assert [path for path, _ in every.routes()] == [("routes", 0), ("routes", 1)]
    assert every.covers(("listeners", 0))


def test_only_what_belongs_to_the_named_ones_is_covered() -> None:
    one = subject(TWO, only=frozenset({"b"}))
    assert [name for _, name, _ in one.credentials()] == ["b"]
    assert [path for path, _ in one.routes()] == [("routes", 1)]
    assert one.covers(("credentials", "b", "token"))
    assert one.covers(("routes", 1, "host"))
    assert not one.covers(("credentials", "a"))
    assert not one.covers(("routes", 0))
    assert not one.covers(("listeners", 0))


def test_the_machine_s_own_surroundings_are_real() -> None:
    around = Surroundings.real()
    assert around.machine.wall == pytest.approx(around.clock.wall(), abs=60)
