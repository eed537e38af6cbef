"""The provider table: for each provider the keys that its documentation fixes, so that a user writes three or four.

A preset is data. Adding a provider is adding a row to a family's file, and a test of it against a fake that answers as
the provider's page says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.config.presets import aws, azure, gcp, github, gitlab, identity, kubernetes, saas
from sidecar.config.presets.preset import Param, Preset, filled, filled_in, params_in

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FAMILIES", "PRESETS", "Param", "Preset", "filled", "filled_in", "params_in"]

FAMILIES: Final[Mapping[str, tuple[Preset, ...]]] = {
    "AWS": aws.ROWS,
    "Azure, Microsoft Entra ID": azure.ROWS,
    "Google Cloud": gcp.ROWS,
    "GitHub": github.ROWS,
    "GitLab": gitlab.ROWS,
    "Kubernetes": kubernetes.ROWS,
    "Okta, Auth0, Keycloak, Ping": identity.ROWS,
    "Atlassian, Salesforce, Slack": saas.ROWS,
}

PRESETS: Final[Mapping[str, Preset]] = {row.name: row for family in FAMILIES.values() for row in family}
