"""Trusted foreign issuers whose keys are in a file."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from fake_credits.errors import InvalidToken
from fake_credits.tokens.minting import trusted_issuer
from fake_credits.tokens.verifying import Verifier

URL = "https://dev-tenant.example/"
NOW_MS = 1_800_000_000_000
EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def token(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, algorithm: str, kid: str = "tenant-1") -> str:
    claims = {"iss": URL, "sub": "auth0|ada", "aud": "https://api", "exp": NOW_MS // 1000 + 60}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})


def jwks(*, kid: str = "tenant-1", **members: object) -> str:
    public = {
        **RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True),
        "kid": kid,
        "use": "sig",
        "alg": "RS256",
        **members,
    }
    return json.dumps({"keys": [public]})


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tenant")])
    not_before = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(RSA.public_key())
    builder = builder.serial_number(1).not_valid_before(not_before).not_valid_after(not_before + timedelta(days=1))
    return builder.sign(RSA, hashes.SHA256()).public_bytes(Encoding.PEM)


VALID_KEY_FILES: dict[str, tuple[Callable[[], str | bytes], str]] = {
    "a JWK Set": (jwks, token(RSA, "RS256")),
    "an RSA key as PEM, whatever the kid": (lambda: pem(RSA), token(RSA, "RS256", "anything")),
    "a P-256 key as PEM": (lambda: pem(EC), token(EC, "ES256")),
    "a certificate": (certificate, token(RSA, "RS256")),
}


def write_file(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", VALID_KEY_FILES)
def test_token_signed_with_a_trusted_key_is_accepted(tmp_path: Path, name: str) -> None:
    make_content, user_token = VALID_KEY_FILES[name]
    issuer = trusted_issuer(URL, write_file(tmp_path / "keys", make_content()))
    assert Verifier((issuer,)).verify(user_token, NOW_MS).user_id == "auth0|ada"


def test_kid_missing_from_the_key_set_is_rejected(tmp_path: Path) -> None:
    issuer = trusted_issuer(URL, write_file(tmp_path / "keys", jwks(kid="tenant-2")))
    with pytest.raises(InvalidToken, match="tenant-2"):
        Verifier((issuer,)).verify(token(RSA, "RS256"), NOW_MS)


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc", "alg": "ECDH-ES"},
        {"key_ops": ["encrypt"]},
        {"key_ops": ["deriveKey"], "alg": "ECDH-ES"},
        {"use": "sig", "key_ops": ["encrypt"]},
        {"key_ops": []},
    ],
    ids=str,
)
def test_encryption_key_is_ignored(tmp_path: Path, members: dict[str, object]) -> None:
    key_set = json.loads(jwks())
    key_set["keys"].append({**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), **members})
    issuer = trusted_issuer(URL, write_file(tmp_path / "keys", json.dumps(key_set)))
    assert [key.kid for key in issuer.keys.published_keys()] == ["tenant-1"]


PRIVATE = EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
ED25519 = (
    ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)
INVALID_KEY_FILES: dict[str, tuple[str | bytes, str]] = {
    "an empty file": ("", "neither PEM nor a JWK Set"),
    "no JSON": ("nonsense", "neither PEM nor a JWK Set"),
    "a JSON array": ("[]", "neither PEM nor a JWK Set"),
    "a set of strings": ('{"keys": ["x"]}', "neither PEM nor a JWK Set"),
    "an empty set": ('{"keys": []}', "no verification key"),
    "a key without a type": ('{"keys": [{}]}', r"keys\[0\] is not a valid key"),
    "a kid that is a number": (jwks().replace('"tenant-1"', "7"), r"keys\[0\] has a kid that is not a string: 7"),
    "key_ops that are a string": (jwks(key_ops="verify"), r"keys\[0\] has key_ops that are not a list: 'verify'"),
    "key_ops that are a number": (jwks(key_ops=5), r"keys\[0\] has key_ops that are not a list: 5"),
    "only a key to encrypt with": (jwks(key_ops=["encrypt"]), "no verification key"),
    "a private PEM": (PRIVATE, "contains a private key"),
    "a private JWK": (jwks(d="AQAB"), "is a private key"),
    "a symmetric JWK": ('{"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}', "is a symmetric key"),
    "two of one kid": (json.dumps({"keys": json.loads(jwks())["keys"] * 2}), "two keys with the same kid"),
    "an invalid PEM": (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "."),
    "a PEM of another key type": (ED25519, "can't be used with any of the algorithms RS256, ES256"),
    "a file over 1 MiB": (b" " * (1024 * 1024 + 1), "larger than 1048576 bytes"),
    "endless nesting": ("[" * 100_000, "."),
}


@pytest.mark.parametrize("name", INVALID_KEY_FILES)
def test_file_without_usable_public_key_raises_value_error(tmp_path: Path, name: str) -> None:
    content, message = INVALID_KEY_FILES[name]
    with pytest.raises(ValueError, match=f"keys.txt: .*{message}"):
        trusted_issuer(URL, write_file(tmp_path / "keys.txt", content))


def test_missing_file_raises_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json: the file can't be read: No such file"):
        trusted_issuer(URL, tmp_path / "none.json")
