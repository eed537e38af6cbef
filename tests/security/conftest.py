"""Fixtures of the security tests: those of the data path."""

from __future__ import annotations

from tests.proxy.conftest import logs, pytest_asyncio_loop_factories, rig, trust

__all__ = ["logs", "pytest_asyncio_loop_factories", "rig", "trust"]
