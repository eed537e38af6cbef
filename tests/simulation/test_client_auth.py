"""A client proves who it is in exactly one way, and one it is registered for."""

from __future__ import annotations

import base64
import datetime
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc.jwk import OctKey

from sidecar.simulation.client_auth import thumbprint
from sidecar.simulation.idp import Client, MockIdP, Refreshing, Trusted
from tests.simulation.parties import FORM, ask, asserting, basic, claims, new_key, post, public, signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

LONG_SECRET = "a secret that is long enough for a signature"


@pytest.mark.parametrize(
    ("form", "headers", "status", "error"),
    [
        (FORM, {}, 401, "invalid_client"),
        (FORM, basic(secret="wrong"), 401, "invalid_client"),
        (FORM, basic(client="other"), 401, "invalid_client"),
        (FORM, {"Authorization": "Basic !!!"}, 400, "invalid_request"),
        (FORM, {"Authorization": "Basic \u00e9"}, 400, "invalid_request"),
        (FORM, {"Authorization": "Bearer x"}, 400, "invalid_request"),
        (FORM, {"Authorization": "Basic " + base64.b64encode(b"client").decode()}, 400, "invalid_request"),
        ({"grant_type": "password"}, basic(), 400, "unsupported_grant_type"),
        ({}, basic(), 400, "unsupported_grant_type"),
        (FORM | {"client_secret": "client-secret"}, basic(), 400, "invalid_request"),
        (FORM | {"client_id": "client", "client_secret": "wrong"}, {}, 401, "invalid_client"),
        ([("grant_type", "client_credentials"), ("scope", "a"), ("scope", "b")], basic(), 400, "invalid_request"),
    ],
)
async def test_it_refuses_what_the_rfc_refuses(
    session: aiohttp.ClientSession, idp: MockIdP, form: Any, headers: dict[str, str], status: int, error: str
) -> None:
    answered, fields = await ask(session, idp, form, headers)
    assert (answered, fields["error"]) == (status, error)


async def test_a_repeated_resource_is_fine(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    form = [("grant_type", "client_credentials"), ("resource", "a"), ("resource", "b")]
    assert (await ask(session, idp, form))[0] == 200


async def test_basic_is_form_decoded_unless_it_is_raw(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.secrets["client"] = {"a+b c"}
    assert (await ask(session, idp, headers=basic(secret="a%2Bb+c")))[0] == 200
    assert (await ask(session, idp, headers=basic(secret="a+b c")))[0] == 401
    idp.basic_encoding = "raw"
    assert (await ask(session, idp, headers=basic(secret="a+b c")))[0] == 200


async def test_a_public_client_names_itself_and_gets_no_client_credentials(
    session: aiohttp.ClientSession, idp: MockIdP
) -> None:
    idp.register("app", Client(auth=frozenset({"none"}), refreshing=Refreshing()))
    form = {"grant_type": "refresh_token", "refresh_token": idp.login("app"), "client_id": "app"}
    assert (await ask(session, idp, form, {}))[0] == 200
    status, fields = await ask(session, idp, FORM | {"client_id": "app"}, {})
    assert (status, fields["error"]) == (400, "unauthorized_client")


async def test_a_client_uses_only_the_methods_it_is_registered_for(
    session: aiohttp.ClientSession, idp: MockIdP
) -> None:
    in_body = FORM | {"client_id": "client", "client_secret": "client-secret"}
    idp.register("client", Client(auth=frozenset({"client_secret_post"})))
    assert (await ask(session, idp, in_body, {}))[0] == 200
    assert (await ask(session, idp))[1]["error"] == "invalid_client"
    idp.register("client", Client(auth=frozenset({"client_secret_basic"})))
    assert (await ask(session, idp, in_body, {}))[1]["error"] == "invalid_client"
    assert (await ask(session, idp))[0] == 200


async def test_a_wrong_basic_secret_is_challenged(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    async with session.post(idp.token_url, data=FORM, headers=basic(secret="wrong")) as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="token"')


async def test_a_body_that_is_no_form_is_refused(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    async with session.post(idp.token_url, json=FORM, headers=basic()) as response:
        assert (response.status, (await response.json())["error"]) == (400, "invalid_request")


async def test_a_provider_can_want_json_instead(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.body = "json"
    async with session.post(idp.token_url, json=FORM, headers=basic()) as response:
        assert response.status == 200
    assert (await ask(session, idp))[1]["error"] == "invalid_request"


# --- assertions ------------------------------------------------------------------------------------------------------


async def test_a_client_signs_with_its_private_key(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    key = new_key()
    idp.register("client", Client(auth=frozenset({"private_key_jwt"}), keys=(public(new_key()), public(key))))
    assertion = signed(claims(idp), key)
    assert (await ask(session, idp, FORM | asserting(assertion), {}))[0] == 200
    replayed = await ask(session, idp, FORM | asserting(assertion), {})
    assert (replayed[0], replayed[1]["error"]) == (401, "invalid_client")
    assert (await ask(session, idp, FORM | asserting(signed(claims(idp, aud=idp.token_url), key)), {}))[0] == 200
    named = FORM | {"client_id": "client"} | asserting(signed(claims(idp), key))
    assert (await ask(session, idp, named, {}))[0] == 200


async def test_a_client_signs_with_its_secret(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("client", Client(auth=frozenset({"client_secret_jwt"})), secret=LONG_SECRET)
    key = OctKey.import_key(LONG_SECRET)
    assert (await ask(session, idp, FORM | asserting(signed(claims(idp), key, alg="HS256")), {}))[0] == 200
    other = OctKey.import_key(LONG_SECRET + "!")
    assert (await ask(session, idp, FORM | asserting(signed(claims(idp), other, alg="HS256")), {}))[0] == 401


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, 400, "invalid_request"),
        ({"client_assertion_type": ""}, 400, "invalid_request"),
        ({"client_assertion": "no JWT"}, 401, "invalid_client"),
        ({"client_assertion": ""}, 401, "invalid_client"),
        ({"client_id": "other"}, 401, "invalid_client"),
        ({"client_secret": "client-secret"}, 400, "invalid_request"),
    ],
)
async def test_an_assertion_stands_alone_and_says_what_it_is(
    session: aiohttp.ClientSession, idp: MockIdP, form: dict[str, str], status: int, error: str
) -> None:
    key = new_key()
    idp.register("client", Client(auth=frozenset({"private_key_jwt"}), keys=(public(key),)))
    answered, fields = await ask(session, idp, FORM | asserting(signed(claims(idp), key)) | form, {})
    assert (answered, fields["error"]) == (status, error)


async def test_an_assertion_beside_a_basic_secret_is_one_too_many(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    form = FORM | asserting(signed(claims(idp), new_key()))
    assert (await ask(session, idp, form))[1]["error"] == "invalid_request"


async def test_an_assertion_of_another_is_not_the_clients(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    key = new_key()
    idp.register("client", Client(auth=frozenset({"private_key_jwt"}), keys=(public(new_key()),)))
    assert (await ask(session, idp, FORM | asserting(signed(claims(idp), key)), {}))[1]["error"] == "invalid_client"
    assert (await ask(session, idp, FORM | asserting(signed(claims(idp, "nobody"), key)), {}))[0] == 401


async def test_a_method_is_not_exchanged_for_another(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    idp.register("client", Client(auth=frozenset({"private_key_jwt"})), secret=LONG_SECRET)
    forged = signed(claims(idp), OctKey.import_key(LONG_SECRET), alg="HS256")
    assert (await ask(session, idp, FORM | asserting(forged), {}))[0] == 401


async def test_a_platforms_assertion_stands_for_a_client(session: aiohttp.ClientSession, idp: MockIdP) -> None:
    key = new_key()
    platform = Trusted(issuer="https://platform.test", keys=(public(key),), subject="system:serviceaccount:a:worker")
    idp.register("worker", Client(auth=frozenset({"federated"}), federated=platform))
    right = claims(idp, "https://platform.test", sub="system:serviceaccount:a:worker", exp=int(idp.wall()) + 3600)
    form = FORM | {"client_id": "worker"} | asserting(signed(right, key))
    for _ in range(2):  # the file of a platform is read again and again
        assert (await ask(session, idp, form, {}))[0] == 200
    for wrong in (
        FORM | asserting(signed(right, key)),
        FORM | {"client_id": "client"} | asserting(signed(right, key)),
        form | asserting(signed(right | {"sub": "system:serviceaccount:a:other"}, key)),
        form | asserting(signed(right, new_key())),
        form | asserting(signed(right | {"exp": int(idp.wall())}, key)),
    ):
        status, fields = await ask(session, idp, wrong, {})
        assert (status, fields["error"]) == (401, "invalid_client")


# --- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def mtls_idp(authority: trustme.CA) -> AsyncIterator[MockIdP]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    server.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(server)
    async with MockIdP(mtls=server) as idp:
        yield idp


def presenting(authority: trustme.CA, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


def self_signed(path: Path) -> Path:
    """A certificate that nobody else vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    certificate = builder.not_valid_after(now + datetime.timedelta(hours=1)).sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + pem)
    return path


def thumbprint_of(certificate: trustme.LeafCert) -> str:
    return thumbprint(ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode()))


async def test_a_client_is_known_by_the_subject_of_its_certificate(
    session: aiohttp.ClientSession, mtls_idp: MockIdP, authority: trustme.CA
) -> None:
    mine, other = (authority.issue_cert(common_name=name) for name in ("orders-worker", "other"))
    subject = x509.load_pem_x509_certificate(mine.cert_chain_pems[0].bytes()).subject.rfc4514_string()
    assert "CN=orders-worker" in subject
    mtls_idp.register("worker", Client(auth=frozenset({"tls_client_auth"}), certificate_subject=subject))
    url, form = f"{mtls_idp.mtls_url}/token", FORM | {"client_id": "worker"}
    status, fields = await post(session, url, form, {}, ssl=presenting(authority, mine))
    assert (status, fields["token_type"]) == (200, "Bearer")
    assert mtls_idp.bound_to(fields["access_token"]) == {"x5t#S256": thumbprint_of(mine)}
    for certificate in (other, None):
        status, fields = await post(session, url, form, {}, ssl=presenting(authority, certificate))
        assert (status, fields["error"]) == (401, "invalid_client")
    assert (await ask(session, mtls_idp, form, {}))[1]["error"] == "invalid_client"  # the other port asks for none


async def test_a_certificate_that_signed_itself_is_known_by_itself(
    session: aiohttp.ClientSession, authority: trustme.CA, tmp_path: Path
) -> None:
    mine, other = self_signed(tmp_path / "mine.pem"), self_signed(tmp_path / "other.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    server.verify_mode = ssl.CERT_OPTIONAL
    for path in (mine, other):  # each is its own authority
        server.load_verify_locations(path)
    async with MockIdP(mtls=server) as idp:
        mark = thumbprint(ssl.PEM_cert_to_DER_cert(mine.read_text().partition("-----BEGIN PRIVATE")[0]))
        method = frozenset({"self_signed_tls_client_auth"})
        idp.register("worker", Client(auth=method, certificate_thumbprint=mark))
        url, form = f"{idp.mtls_url}/token", FORM | {"client_id": "worker"}
        for path, status in ((mine, 200), (other, 401)):
            context = presenting(authority)
            context.load_cert_chain(path)
            assert (await post(session, url, form, {}, ssl=context))[0] == status


async def test_a_token_can_be_bound_without_authenticating_by_certificate(
    session: aiohttp.ClientSession, mtls_idp: MockIdP, authority: trustme.CA
) -> None:
    mine = authority.issue_cert(common_name="orders-worker")
    mtls_idp.register("client", Client(binds_certificate=True))
    url = f"{mtls_idp.mtls_url}/token"
    _, fields = await post(session, url, FORM, basic(), ssl=presenting(authority, mine))
    assert mtls_idp.bound_to(fields["access_token"]) == {"x5t#S256": thumbprint_of(mine)}
    assert (await post(session, url, FORM, basic(), ssl=presenting(authority)))[1]["error"] == "invalid_request"


async def test_a_certificate_that_nobody_asked_for_binds_nothing(
    session: aiohttp.ClientSession, mtls_idp: MockIdP, authority: trustme.CA
) -> None:
    mine = authority.issue_cert(common_name="orders-worker")
    url = f"{mtls_idp.mtls_url}/token"
    _, fields = await post(session, url, FORM, basic(), ssl=presenting(authority, mine))
    assert mtls_idp.bound_to(fields["access_token"]) == {}
