"""Own bad tokens: each breaks one rule and keeps the others; know nothing of who refuses them, or how.

Everything but the broken part is what a good token of the same provider has, so a test sees the one check it means.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fake_credits.auth.issuers import Minter, compact, encode_segment, to_json
from fake_credits.auth.jws import TOKEN_LIMIT_BYTES
from fake_credits.auth.keys import SigningKeys
from fake_credits.errors import ApiError, Forbidden, InvalidToken, TokenExpired, did_you_mean

__all__ = ["BAD_TOKENS", "BadToken", "bad_token"]

_HOUR_S = 3600
_OTHER_USER = "somebody-else"


@dataclass(frozen=True, slots=True)
class _Order:
    """Be what a bad token is made from: a minter, and the claims that a good one would have."""

    minter: Minter
    claims: Mapping[str, object]
    now_s: int

    def signed(self, changes: Mapping[str, object] | None = None) -> str:
        return compact(self.minter.signing_key, to_json({**self.claims, **(changes or {})}))

    def without_signature(self, algorithm: str) -> str:
        header = to_json({"alg": algorithm, "typ": "JWT", "kid": self.minter.signing_key.kid})
        return f"{encode_segment(header)}.{encode_segment(to_json(self.claims))}"

    @property
    def other_user(self) -> str:
        return _OTHER_USER if self.claims["sub"] != _OTHER_USER else f"not-{_OTHER_USER}"


@dataclass(frozen=True, slots=True)
class BadToken:
    """Say what a kind of bad token breaks, and the answer of the default contract to it.

    ``why`` is what ``X-Fake-Credits-Cause`` says after ``auth:``.
    """

    breaks: str
    why: str
    make: Callable[[_Order], str] = field(repr=False)
    error: type[ApiError] = InvalidToken

    @property
    def code(self) -> str:
        """Return the error code of the answer."""
        return self.error.code

    @property
    def status(self) -> int:
        """Return the status that the default contract answers with."""
        return self.error.default_status


def _expired(order: _Order) -> str:
    ended_s = order.now_s - _HOUR_S
    began_s = ended_s - order.minter.preset.life_s
    nbf: dict[str, object] = {"nbf": began_s} if "nbf" in order.claims else {}
    return order.signed({"iat": began_s, "exp": ended_s, **nbf})


def _not_yet_valid(order: _Order) -> str:
    return order.signed({"nbf": order.now_s + _HOUR_S, "exp": order.now_s + 2 * _HOUR_S})


def _wrong_issuer(order: _Order) -> str:
    return order.signed({"iss": "https://another-issuer.fake-credits.test"})


def _wrong_audience(order: _Order) -> str:
    return order.signed({"aud": "https://another-api.fake-credits.test"})


def _wrong_key(order: _Order) -> str:
    stranger = SigningKeys().current(order.minter.preset.algorithm)
    return compact(stranger, to_json(order.claims), kid=order.minter.signing_key.kid)


def _unknown_kid(order: _Order) -> str:
    return compact(order.minter.signing_key, to_json(order.claims), kid="fake-kid-that-was-never-published")


def _alg_none(order: _Order) -> str:
    return order.without_signature("none") + "."


def _hs256_with_public_key(order: _Order) -> str:
    # By hand: PyJWT refuses to take a public key for a secret, which is the very mistake that this token looks for.
    signing_input = order.without_signature("HS256")
    secret = order.minter.signing_key.verifying.pem().encode()
    return f"{signing_input}.{encode_segment(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"


def _tampered(order: _Order) -> str:
    header, payload, signature = order.signed().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"{header}.{encode_segment(to_json({**claims, 'sub': order.other_user}))}.{signature}"


def _missing_sub(order: _Order) -> str:
    rest = {name: value for name, value in order.claims.items() if name != "sub"}
    return compact(order.minter.signing_key, to_json(rest))


def _other_user(order: _Order) -> str:
    return order.signed({"sub": order.other_user})


def _duplicate_sub(order: _Order) -> str:
    second = b"," + to_json({"sub": order.other_user})[1:]
    return compact(order.minter.signing_key, to_json(order.claims)[:-1] + second)


def _string_exp(order: _Order) -> str:
    return order.signed({"exp": str(order.claims["exp"])})


def _oversize(order: _Order) -> str:
    return order.signed({"padding": "x" * TOKEN_LIMIT_BYTES})


BAD_TOKENS: Final[dict[str, BadToken]] = {
    "expired": BadToken("ended an hour ago", "expired", _expired, TokenExpired),
    "not_yet_valid": BadToken("begins in an hour", "not_yet_valid", _not_yet_valid),
    "wrong_issuer": BadToken("is from an issuer that nobody trusts", "wrong_issuer", _wrong_issuer),
    "wrong_audience": BadToken("is for another API", "wrong_audience", _wrong_audience),
    "wrong_key": BadToken("is signed by a stranger under a known kid", "bad_signature", _wrong_key),
    "unknown_kid": BadToken("names a key that is not in the JWKS", "unknown_kid", _unknown_kid),
    "alg_none": BadToken("is not signed at all", "algorithm_not_allowed", _alg_none),
    "hs256_with_public_key": BadToken(
        "uses the public key as an HMAC secret", "algorithm_not_allowed", _hs256_with_public_key
    ),
    "tampered": BadToken("names another user than was signed", "bad_signature", _tampered),
    "missing_sub": BadToken("names no user", "missing_user", _missing_sub),
    "other_user": BadToken("is genuine, but another user's", "other_user", _other_user, Forbidden),
    "duplicate_sub": BadToken("names two users", "duplicate_payload_member", _duplicate_sub),
    "string_exp": BadToken("has its end as a string", "malformed_exp", _string_exp),
    "oversize": BadToken("is larger than 8 KiB", "oversize", _oversize),
}
"""Every kind of bad token with the answer to it: README, "Bad tokens"."""


def bad_token(
    kind: str, minter: Minter, user_id: str, *, now_ms: int, claims: Mapping[str, object] | None = None
) -> str:
    """Return a token that breaks one rule, as of ``now_ms`` (ms since 1970); ``claims`` add to those it has.

    Raise ValueError for a kind that is not in `BAD_TOKENS`, naming one that is near, and TypeError for what is no str.
    """
    if not isinstance(kind, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
        raise TypeError(f"bad must be a str, the name of a kind of bad token, not {type(kind).__name__}")
    if kind not in BAD_TOKENS:
        hint = did_you_mean(kind, BAD_TOKENS)
        raise ValueError(f"no bad token {kind!r}{hint} (there are {', '.join(BAD_TOKENS)})")
    own = {**minter.claims(user_id, now_ms=now_ms), **(claims or {})}
    return BAD_TOKENS[kind].make(_Order(minter, own, now_ms // 1000))
