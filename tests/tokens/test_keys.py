"""Keys: made when needed, published without their private part, rotated and retired."""

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

BOTH: tuple[SigningAlgorithm, ...] = ("ES256", "RS256")


@pytest.fixture
def keys() -> SigningKeys:
    return SigningKeys()


def test_no_key_is_made_before_it_is_needed(keys: SigningKeys) -> None:
    assert keys.published_keys() == ()


def test_the_jwks_has_an_es256_key_and_makes_no_rsa_key(keys: SigningKeys) -> None:
    assert [key["alg"] for key in keys.jwks()["keys"]] == ["ES256"]


@pytest.mark.parametrize("algorithm", BOTH)
def test_a_signature_is_verified_by_the_published_key(shared_keys: SigningKeys, algorithm: SigningAlgorithm) -> None:
    key = shared_keys.current_key(algorithm)
    published = shared_keys.find(key.kid)
    assert published is not None
    assert published.verifies(b"message", key.sign(b"message"))
    assert not published.verifies(b"another", key.sign(b"message"))


def test_a_kid_is_looked_up_exactly(keys: SigningKeys) -> None:
    kid = keys.current_key("ES256").kid
    assert keys.find(kid.upper()) is None
    assert keys.find(kid + " ") is None
    assert keys.find("") is None


def test_the_jwks_has_the_public_members_only(shared_keys: SigningKeys) -> None:
    common = {"kty", "use", "alg", "kid"}
    by_type = {key["kty"]: key for key in shared_keys.jwks(BOTH)["keys"]}
    assert by_type["EC"].keys() == common | {"crv", "x", "y"}
    assert by_type["RSA"].keys() == common | {"n", "e"}
    assert {key["use"] for key in by_type.values()} == {"sig"}


@pytest.mark.parametrize("algorithm", BOTH)
def test_another_library_reads_the_jwk(shared_keys: SigningKeys, algorithm: SigningAlgorithm) -> None:
    key = shared_keys.current_key(algorithm)
    read = PyJWK(dict(key.verifying_key.jwk()))
    assert read.key_id == key.kid
    assert read.Algorithm.verify(b"m", read.key, key.sign(b"m"))


@pytest.mark.parametrize("algorithm", BOTH)
def test_the_pem_is_the_public_key(shared_keys: SigningKeys, algorithm: SigningAlgorithm) -> None:
    pem = shared_keys.public_pem(algorithm)
    assert load_pem_public_key(pem.encode()) == shared_keys.current_key(algorithm).verifying_key.key
    assert "PRIVATE" not in pem


def test_a_rotated_key_stays_published_until_it_is_retired(keys: SigningKeys) -> None:
    old = keys.current_key("ES256")
    new = keys.rotate("ES256")
    assert keys.current_key("ES256") is new
    assert [key["kid"] for key in keys.jwks()["keys"]] == [old.kid, new.kid]
    keys.retire(old.kid)
    assert [key["kid"] for key in keys.jwks()["keys"]] == [new.kid]


def test_a_retired_signing_key_is_replaced(keys: SigningKeys) -> None:
    old = keys.current_key("ES256")
    keys.retire(old.kid)
    assert keys.current_key("ES256").kid != old.kid
    assert keys.find(old.kid) is None


def test_retiring_an_unknown_kid_names_the_known_ones(keys: SigningKeys) -> None:
    kid = keys.current_key("ES256").kid
    with pytest.raises(ValueError, match=kid):
        keys.retire("nonsense")


def test_the_generation_changes_with_rotate_and_retire_only(keys: SigningKeys) -> None:
    old = keys.current_key("ES256")
    before = keys.generation
    keys.jwks()
    assert keys.generation == before
    keys.rotate("ES256")
    rotated = keys.generation
    keys.retire(old.kid)
    assert len({before, rotated, keys.generation}) == 3


def test_threads_that_ask_at_once_get_one_key(keys: SigningKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SigningKeys._install  # pyright: ignore[reportPrivateUsage]

    def slowly(self: SigningKeys, algorithm: SigningAlgorithm) -> SigningKey:
        time.sleep(0.005)  # as an RSA key is made, so that all the others come to wait
        return real(self, algorithm)

    monkeypatch.setattr(SigningKeys, "_install", slowly)
    barrier = threading.Barrier(8)
    made: list[SigningKey] = []

    def ask() -> None:
        barrier.wait()
        made.append(keys.current_key("ES256"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.kid for key in made}) == 1
    assert len(keys.published_keys()) == 1


def test_no_repr_shows_a_key(keys: SigningKeys) -> None:
    key = keys.current_key("ES256")
    text = repr(keys) + repr(key)
    assert "rivate" not in text
    assert "ECPublicKey" not in text


def test_no_symmetric_algorithm_can_be_used() -> None:
    assert set(VERIFYING_ALGORITHMS) == {f"{family}{bits}" for family in ("ES", "PS", "RS") for bits in (256, 384, 512)}


def _p256() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP256R1()).public_key()


def _rsa1024() -> rsa.RSAPublicKey:
    return rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - too short on purpose


@pytest.mark.parametrize(
    ("key", "algorithm", "reason"),
    [
        (VerifyingKey("k", "ES256", _p256(), use="enc"), "ES256", "use"),
        (VerifyingKey("k", "ES256", _p256()), "RS256", "key for ES256"),
        (VerifyingKey("k", "RS256", _p256()), "RS256", "Expecting"),
        (VerifyingKey("k", "ES384", _p256()), "ES384", "curve"),
        (VerifyingKey("k", "RS256", _rsa1024()), "RS256", "1024 bits"),
    ],
)
def test_a_key_that_does_not_fit_says_why(key: VerifyingKey, algorithm: str, reason: str) -> None:
    assert reason in key.mismatch_reason(algorithm)


def test_a_key_that_fits_has_no_misfit() -> None:
    assert VerifyingKey("k", "ES256", _p256()).mismatch_reason("ES256") == ""


def test_keys_written_as_pem_sign_alike_in_another_process() -> None:
    """The kid is derived from the key, so two processes that share a file agree on it too."""
    pem = new_private_pem()
    one, other = SigningKeys(pem), SigningKeys(pem)
    for algorithm in BOTH:
        key = other.find(one.current_key(algorithm).kid)
        assert key is not None
        assert key.verifies(b"message", one.current_key(algorithm).sign(b"message"))


@pytest.mark.parametrize("text", ["no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"])
def test_text_without_a_private_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        SigningKeys(text)


def test_a_key_on_another_curve_is_refused() -> None:
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(*form).decode()
    with pytest.raises(ValueError, match="neither P-256 nor RSA"):
        SigningKeys(pem)
