"""Against the certified oidc-provider: every client authentication that it offers, DPoP, resources, scopes, discovery.

The provider is over TLS with a test CA, takes the issuer alone for an assertion's audience, refuses a JWT whose ``jti``
came before, and asks for certificates on a port of its own. An upstream judges every token with its own eyes.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from sidecar.broker.idp import IdP
from sidecar.config.load import parse as load_configuration
from tests.end_to_end.node_packages import missing, needs_node
from tests.end_to_end.openid_provider import OTHER_RESOURCE, RESOURCE, OpenIDProvider
from tests.end_to_end.origin import VALID
from tests.end_to_end.registrations import ODD_ID, SCOPE, Registrar
from tests.end_to_end.resource_server import ResourceServer
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.end_to_end.conftest import StartSidecar
    from tests.end_to_end.origin import Authority
    from tests.end_to_end.sidecar_process import Configuration, SidecarProcess

pytestmark = needs_node()
