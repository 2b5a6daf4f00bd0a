"""Public vectors against our verification of header, key and signature."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import InvalidKeyError
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from fake_credits.errors import InvalidToken
from fake_credits.tokens.jws import verify_signature
from fake_credits.tokens.keys import VERIFYING_ALGORITHMS, VerifyingKey
from fake_credits.tokens.minting import Issuer

FOLDER = Path(__file__).parents[3] / "shared" / "wycheproof"
FILES = ("signature", "key", "crypto")

# A key is good for the one algorithm that it names, so these valid vectors are refused, by our choice.
STRICTER = {
    ("signature", 346): "a PS384 token under a key for PS256",
    ("signature", 347): "an ES512 token under a key for 'ES521', which is no algorithm",
    ("signature", 350): "a PS384 token under a key for PS256",
    ("signature", 351): "an ES512 token under a key for 'ES521', which is no algorithm",
}

# Weak keys belong to whoever loads a foreign issuer's; this server's own are made by OpenSSL.
NOT_SEEN = {
    ("key", 7): "an RSA key with the ROCA weakness",
    ("crypto", 46): "an RSA key with the ROCA weakness",
}


class Keys:
    """Publish a vector's keys; those that are no public keys of a known type are left out."""

    generation = 0

    def __init__(self, jwks: list[dict[str, Any]]) -> None:
        loaded = [key for jwk in jwks if (key := load(jwk)) is not None]
        self._keys = {key.kid: key for key in loaded}

    def find(self, kid: str) -> VerifyingKey | None:
        return self._keys.get(kid)

    def published_keys(self) -> tuple[VerifyingKey, ...]:
        return tuple(self._keys.values())


def load(jwk: dict[str, Any]) -> VerifyingKey | None:
    members = {name: value for name, value in jwk.items() if name not in ("d", "p", "q", "dp", "dq", "qi")}
    use = jwk.get("use", "sig" if "verify" in jwk.get("key_ops", ["verify"]) else "enc")
    try:
        key = RSAAlgorithm.from_jwk(members) if jwk["kty"] == "RSA" else ECAlgorithm.from_jwk(members)
    except (InvalidKeyError, ValueError):
        return None
    assert isinstance(key, RSAPublicKey | EllipticCurvePublicKey)
    return VerifyingKey(jwk["kid"], jwk.get("alg", ""), key, use)


def vectors() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name in FILES:
        path = FOLDER / f"json_web_{name}_test.json"
        groups: list[dict[str, Any]] = json.loads(path.read_text())["testGroups"] if path.exists() else []
        yield from ((name, group, test) for group in groups for test in group["tests"])


def marks(name: str, test: dict[str, Any]) -> list[pytest.MarkDecorator]:
    vector = (name, test["tcId"])
    return [pytest.mark.xfail(reason=NOT_SEEN[vector], strict=True)] if vector in NOT_SEEN else []


VECTORS = [
    pytest.param(name, group, test, id=f"{name}-{test['tcId']}-{group['comment']}", marks=marks(name, test))
    for name, group, test in vectors()
]

present = pytest.mark.skipif(not VECTORS, reason="the public vectors are not beside this repository")


def accepted(group: dict[str, Any], test: dict[str, Any]) -> bool:
    jwks = group.get("public") or group["private"]
    issuer = Issuer("https://vectors.test", tuple(VERIFYING_ALGORITHMS), Keys(jwks.get("keys", [jwks])))
    token = test["jwe"] if "jwe" in test else test["jws"]
    text = token if isinstance(token, str) else json.dumps(token)
    try:
        verify_signature(text, [issuer])
    except InvalidToken:
        return False
    return True


def symmetric(group: dict[str, Any]) -> bool:
    """Tell whether a group is of a kind that is never supported: HMAC, or encryption."""
    keys = group["private"].get("keys", [group["private"]])
    return group["comment"].startswith("jwe") or any(key["kty"] == "oct" for key in keys)


@present
@pytest.mark.parametrize(("name", "group", "test"), VECTORS)
def test_a_vector_is_answered_as_published(name: str, group: dict[str, Any], test: dict[str, Any]) -> None:
    vector = (name, test["tcId"])
    expected = test["result"] == "valid" and not symmetric(group) and vector not in STRICTER
    assert accepted(group, test) is expected


@present
def test_the_vectors_are_all_there() -> None:
    """A loader that finds no vectors, or no valid ones, would pass in silence."""
    results = [(accepted(group, test), test["result"]) for _, group, test in vectors()]
    assert len(results) == 401 + 26 + 83
    assert sum(good for good, _ in results) >= 35
