"""Signing keys: creation on demand, publication, rotation and retirement."""

import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_public_key
from jwt import PyJWK

from fake_credits.tokens.keys import (
    VERIFYING_ALGORITHMS,
    SigningAlgorithm,
    SigningKey,
    SigningKeys,
    VerifyingKey,
    new_private_pem,
)

ALGORITHMS: tuple[SigningAlgorithm, ...] = ("ES256", "RS256")


@pytest.fixture
def keys() -> SigningKeys:
    return SigningKeys()


def test_keys_are_created_on_demand(keys: SigningKeys) -> None:
    assert keys.published_keys() == ()


def test_default_jwks_has_only_an_es256_key(keys: SigningKeys) -> None:
    assert [key["alg"] for key in keys.jwks()["keys"]] == ["ES256"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_published_key_verifies_the_signature(shared_keys: SigningKeys, algorithm: SigningAlgorithm) -> None:
    key = shared_keys.current_key(algorithm)
    published = shared_keys.find(key.kid)
    assert published is not None
    assert published.verifies(b"message", key.sign(b"message"))
    assert not published.verifies(b"another", key.sign(b"message"))


def test_kid_lookup_is_exact(keys: SigningKeys) -> None:
    kid = keys.current_key("ES256").kid
    assert keys.find(kid.upper()) is None
    assert keys.find(kid + " ") is None
    assert keys.find("") is None


def test_jwks_has_only_public_members(shared_keys: SigningKeys) -> None:
    common = {"kty", "use", "alg", "kid"}
    by_type = {key["kty"]: key for key in shared_keys.jwks(ALGORITHMS)["keys"]}
    assert by_type["EC"].keys() == common | {"crv", "x", "y"}
    assert by_type["RSA"].keys() == common | {"n", "e"}
    assert {key["use"] for key in by_type.values()} == {"sig"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_pyjwt_can_use_the_jwk(shared_keys: SigningKeys, algorithm: SigningAlgorithm) -> None:
    key = shared_keys.current_key(algorithm)
    jwk = PyJWK(dict(key.jwk()))
    assert jwk.key_id == key.kid
    assert jwk.Algorithm.verify(b"m", jwk.key, key.sign(b"m"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_pem_contains_only_the_public_key(shared_keys: SigningKeys, algorithm: SigningAlgorithm) -> None:
    pem = shared_keys.current_key(algorithm).pem()
    assert load_pem_public_key(pem.encode()) == shared_keys.current_key(algorithm).key
    assert "PRIVATE" not in pem


def test_concurrent_threads_get_the_same_key(keys: SigningKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    original_install = SigningKeys._install  # pyright: ignore[reportPrivateUsage]

    def slow_install(self: SigningKeys, algorithm: SigningAlgorithm) -> SigningKey:
        time.sleep(0.005)  # simulate slow key generation, so that all other threads wait
        return original_install(self, algorithm)

    monkeypatch.setattr(SigningKeys, "_install", slow_install)
    barrier = threading.Barrier(8)
    collected_keys: list[SigningKey] = []

    def get_key() -> None:
        barrier.wait()
        collected_keys.append(keys.current_key("ES256"))

    threads = [threading.Thread(target=get_key) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.kid for key in collected_keys}) == 1
    assert len(keys.published_keys()) == 1


def test_repr_does_not_contain_keys(keys: SigningKeys) -> None:
    key = keys.current_key("ES256")
    text = repr(keys) + repr(key)
    assert "rivate" not in text
    assert "ECPublicKey" not in text


def test_only_asymmetric_algorithms_are_supported() -> None:
    assert set(VERIFYING_ALGORITHMS) == {f"{family}{bits}" for family in ("ES", "PS", "RS") for bits in (256, 384, 512)}


def _p256() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP256R1()).public_key()


def _rsa1024() -> rsa.RSAPublicKey:
    return rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - too short on purpose


@pytest.mark.parametrize(
    ("algorithm", "key", "reason"),
    [
        ("RS256", _p256(), "Expecting"),
        ("ES384", _p256(), "curve"),
        ("RS256", _rsa1024(), "1024 bits"),
        ("HS256", _p256(), "unknown algorithm HS256 .known: ES256"),
        ("none", _p256(), "unknown algorithm none"),
    ],
)
def test_key_that_does_not_fit_its_algorithm_raises_value_error(
    algorithm: str, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        VerifyingKey("k", algorithm, key)


def test_keys_loaded_from_the_same_pem_are_equal() -> None:
    """The kid is derived from the key, so two processes that share a file also agree on the kid."""
    pem = new_private_pem()
    first, second = SigningKeys(pem), SigningKeys(pem)
    for algorithm in ALGORITHMS:
        key = second.find(first.current_key(algorithm).kid)
        assert key is not None
        assert key.verifies(b"message", first.current_key(algorithm).sign(b"message"))


@pytest.mark.parametrize(
    "text",
    ["no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", new_private_pem()[:-40]],
    ids=["no key", "damaged", "cut off"],
)
def test_pem_without_private_key_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        SigningKeys(text)


def test_pem_key_on_another_curve_raises_value_error() -> None:
    encoding = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(*encoding).decode()
    with pytest.raises(ValueError, match="can't be used with any of the algorithms ES256, RS256"):
        SigningKeys(pem)
