"""Secrets and keys that stand in for the real ones, in a folder that is gone at the end.

Nothing of the user's is read: a configuration can be rehearsed where its secrets are not. Decides what is made and
where it lies; whom it belongs to is for ``credentials``.
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from sidecar.secrets import SecretReference
from sidecar.simulation.certificates import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from joserfc.jwk import ECKey, OKPKey, RSAKey

    from sidecar.simulation.idp import MockIdP

_CURVES: Final = {"ES384": "P-384", "ES512": "P-521"}


class MadeUp:
    """The files of one rehearsal.

    Args:
        folder: belongs to this user alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        self._secrets: dict[tuple[str, str], tuple[MockIdP, SecretReference]] = {}

    def file(self, text: str) -> SecretReference:
        """A new file with this content."""
        self._count += 1
        path = self.folder / f"made-up-{self._count}"
        write_private(path, text.encode())
        return SecretReference("file", str(path))

    def secret(self, idp: MockIdP, client_id: str) -> SecretReference:
        """The secret of a client, which its provider knows too."""
        known = self._secrets.get((idp.issuer, client_id))
        if known is None:
            secret = secrets.token_urlsafe(32)
            known = self._secrets[idp.issuer, client_id] = idp, self.file(secret)
            idp.secrets[client_id] = {secret}
        return known[1]

    def change_at_idp(self, idp: MockIdP) -> dict[SecretReference, str]:
        """Give each client of a provider a new secret there; what the files have to hold from now on."""
        changed = {}
        for (_, client_id), (owner, reference) in self._secrets.items():
            if owner is idp:
                changed[reference] = secrets.token_urlsafe(32)
                idp.secrets[client_id] = {changed[reference]}
        return changed

    def change_files(self, changed: dict[SecretReference, str]) -> None:
        """Let the files hold the new secrets, as a platform does it: each is another file from one moment on."""
        for reference, secret in changed.items():
            path = reference.path
            assert path is not None  # noqa: S101 - all of them are files
            new = path.with_name(f"{path.name}.new")
            write_private(new, secret.encode())
            new.replace(path)

    def key(self, algorithm: str | None) -> tuple[SecretReference, dict[str, Any]]:
        """A private key for this algorithm, by default ES256, as a file; and its public half."""
        key = _generated(algorithm or "ES256")
        return self.file(json.dumps(key.as_dict(private=True))), key.as_dict(private=False)

    def statement(self, claims: dict[str, Any]) -> tuple[SecretReference, dict[str, Any]]:
        """A JWT of some platform, as a file; and the key that verifies it."""
        from joserfc import jwt

        key = _generated("ES256")
        text = jwt.encode({"alg": "ES256", "typ": "JWT"}, claims, key, algorithms=["ES256"])
        return self.file(text), key.as_dict(private=False)

    def store_key(self) -> SecretReference:
        """A key for the store of refresh tokens."""
        return self.file(base64.b64encode(secrets.token_bytes(32)).decode())


def _generated(algorithm: str) -> ECKey | RSAKey | OKPKey:
    from joserfc.jwk import ECKey, OKPKey, RSAKey  # heavy

    if algorithm.startswith(("RS", "PS")):
        return RSAKey.generate_key(2048)
    if algorithm == "EdDSA":
        return OKPKey.generate_key("Ed25519")
    return ECKey.generate_key(_CURVES.get(algorithm, "P-256"))
