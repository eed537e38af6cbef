"""Scopes: required ones that nobody asks for, and those that allow far more than a workload needs.

The table of broad scopes is short on purpose: each row is a scope that its provider's own documentation describes as
access to everything, or that administers others. A scope that a preset gives is the provider's own advice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.config import hosts
from sidecar.preflight.findings import Finding
from sidecar.preflight.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.model import Credential
    from sidecar.preflight.subject import Subject

DEFAULT: Final = "/.default"


@dataclass(frozen=True, slots=True)
class Broad:
    """One scope that allows too much.

    Args:
        at: the provider's domain or the beginning of its presets' names, where the word alone says too little.
    """

    scope: str
    reason: str
    at: tuple[str, ...] = ()


_GITHUB: Final = ("github", "github.com")
_GITLAB: Final = ("gitlab", "gitlab.com")
_SALESFORCE: Final = ("salesforce", "salesforce.com")
_SLACK: Final = ("slack", "slack.com")

BROAD: Final = (
    Broad("*", "it stands for everything"),
    Broad("all", "it stands for everything"),
    Broad("admin", "it administers others"),
    Broad("root", "it administers others"),
    Broad("superuser", "it administers others"),
    Broad("repo", "it reads and writes every private repository; a GitHub App has finer permissions", _GITHUB),
    Broad("admin:org", "it administers organisations", _GITHUB),
    Broad("admin:enterprise", "it administers the enterprise", _GITHUB),
    Broad("delete_repo", "it deletes repositories", _GITHUB),
    Broad("site_admin", "it administers the server", _GITHUB),
    Broad("api", "it reads and writes everything; read_api and the scopes of one service are narrower", _GITLAB),
    Broad("sudo", "it acts as every user", _GITLAB),
    Broad("full", "it allows everything that the user may do", _SALESFORCE),
    Broad("admin.users:write", "it administers users", _SLACK),
    Broad(
        "https://www.googleapis.com/auth/cloud-platform",
        "it allows every API of the cloud that the account may use; take the scope of the API that the routes call",
    ),
    Broad("https://mail.google.com/", "it reads, sends and deletes all mail"),
    Broad("https://www.googleapis.com/auth/drive", "it reads and deletes every file; drive.file is narrower"),
    Broad("https://graph.microsoft.com/Directory.ReadWrite.All", "it changes the whole directory"),
    Broad("https://graph.microsoft.com/RoleManagement.ReadWrite.Directory", "it can give itself every role"),
    Broad("https://management.azure.com/user_impersonation", "it allows all that the user may do in Azure"),
)


def lint(subject: Subject) -> Iterator[Finding]:
    """Everything about scopes."""
    yield from required(subject)
    for path, _, credential in subject.credentials():
        place = (*path, "scopes")
        if any(scope.endswith(DEFAULT) for scope in credential.scopes) and len(credential.scopes) > 1:
            message = "a .default scope stands for all that was granted, and Entra ID refuses others beside it"
            yield Finding(Kind.SCOPE_DEFAULT_MIXED, place, message)
        if place in subject.supplied:
            continue
        for at, scope in enumerate(credential.scopes):
            if reason := _too_broad(scope, credential):
                yield Finding(Kind.SCOPE_TOO_BROAD, (*place, at), f"'{scope}' is broad: {reason}")


def required(subject: Subject) -> Iterator[Finding]:
    """An IdP may grant more than was asked (Entra's ``/.default``), but one that does not say is taken at its word."""
    for path, _, credential in subject.credentials():
        absent = [scope for scope in credential.required_scopes if scope not in credential.scopes]
        if absent:
            place = (*path, "required_scopes")
            yield Finding(Kind.REQUIRED_SCOPE_NOT_REQUESTED, place, f"not in scopes: {' '.join(absent)}")


def _too_broad(scope: str, credential: Credential) -> str | None:
    rows = (row for row in BROAD if row.scope == scope and _is_at(row, credential))
    return next((row.reason for row in rows), None)


def _is_at(row: Broad, credential: Credential) -> bool:
    if not row.at:
        return True
    preset, domain = row.at
    urls = [url for url in (credential.token_url, credential.issuer) if url is not None]
    named = [hosts.url_parts(url).host for url in urls]
    is_there = any(host == domain or host.endswith(f".{domain}") for host in named)
    return is_there or (credential.provider or "").startswith(preset)
