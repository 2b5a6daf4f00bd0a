"""Bad tokens, each of which breaks exactly one rule.

In all other respects they match a good token from the same provider, so that a test exercises only one check.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from fake_credits.errors import ApiError, Forbidden, InvalidToken, TokenExpired, did_you_mean
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import Minter, encode_json, encode_jws, encode_segment
from fake_credits.tokens.verifying import MAX_TOKEN_BYTES

BadTokenKind = Literal[
    "expired",
    "not_yet_valid",
    "wrong_issuer",
    "wrong_audience",
    "wrong_key",
    "unknown_kid",
    "alg_none",
    "hs256_with_public_key",
    "tampered",
    "missing_sub",
    "other_user",
    "duplicate_sub",
    "string_exp",
    "oversize",
]

_HOUR_S = 3600
_OTHER_USER_ID = "somebody-else"


@dataclass(frozen=True, slots=True)
class _TokenSpec:
    minter: Minter
    claims: Mapping[str, object]
    now_s: int

    def sign_claims(self, changes: Mapping[str, object] | None = None, *, without: str = "") -> str:
        claims = {name: value for name, value in {**self.claims, **(changes or {})}.items() if name != without}
        return encode_jws(self.minter.signing_key, encode_json(claims))

    def signing_input(self, algorithm: str) -> str:
        header = encode_json({"alg": algorithm, "typ": "JWT", "kid": self.minter.signing_key.kid})
        return f"{encode_segment(header)}.{encode_segment(encode_json(self.claims))}"

    @property
    def other_user_id(self) -> str:
        return _OTHER_USER_ID if self.claims["sub"] != _OTHER_USER_ID else f"not-{_OTHER_USER_ID}"


@dataclass(frozen=True, slots=True)
class BadToken:
    """A kind of bad token: what is wrong with it, and the error response under the default contract.

    ``auth_reason`` follows ``auth:`` in ``X-Fake-Credits-Cause``.
    """

    description: str
    auth_reason: str
    make: Callable[[_TokenSpec], str] = field(repr=False)
    error: type[ApiError] = InvalidToken

    @property
    def code(self) -> str:
        """Return the response's error code."""
        return self.error.code

    @property
    def status(self) -> int:
        """Return the response's status under the default contract."""
        return self.error.default_status


def _expired(spec: _TokenSpec) -> str:
    expired_s = spec.now_s - _HOUR_S
    issued_s = expired_s - spec.minter.provider.lifetime_s
    nbf: dict[str, object] = {"nbf": issued_s} if "nbf" in spec.claims else {}
    return spec.sign_claims({"iat": issued_s, "exp": expired_s, **nbf})


def _hs256_with_public_key(spec: _TokenSpec) -> str:
    # Signed without PyJWT, which refuses to use a public key as a secret: the very mistake that this token tests for.
    signing_input = spec.signing_input("HS256")
    secret = spec.minter.signing_key.pem().encode()
    return f"{signing_input}.{encode_segment(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"


def _tampered(spec: _TokenSpec) -> str:
    header, _, signature = spec.sign_claims().split(".")
    return f"{header}.{encode_segment(encode_json({**spec.claims, 'sub': spec.other_user_id}))}.{signature}"


def _duplicate_sub(spec: _TokenSpec) -> str:
    second_sub = b"," + encode_json({"sub": spec.other_user_id})[1:]
    return encode_jws(spec.minter.signing_key, encode_json(spec.claims)[:-1] + second_sub)


BAD_TOKENS: Final[dict[str, BadToken]] = {
    "expired": BadToken("expired an hour ago", "expired", _expired, TokenExpired),
    "not_yet_valid": BadToken(
        "becomes valid in an hour",
        "not_yet_valid",
        lambda spec: spec.sign_claims({"nbf": spec.now_s + _HOUR_S, "exp": spec.now_s + 2 * _HOUR_S}),
    ),
    "wrong_issuer": BadToken(
        "comes from an untrusted issuer",
        "wrong_issuer",
        lambda spec: spec.sign_claims({"iss": "https://another-issuer.fake-credits.test"}),
    ),
    "wrong_audience": BadToken(
        "is for another API",
        "wrong_audience",
        lambda spec: spec.sign_claims({"aud": "https://another-api.fake-credits.test"}),
    ),
    "wrong_key": BadToken(
        "is signed with an unknown key, but has a known kid",
        "bad_signature",
        lambda spec: encode_jws(
            SigningKeys().current_key(spec.minter.provider.algorithm),
            encode_json(spec.claims),
            kid=spec.minter.signing_key.kid,
        ),
    ),
    "unknown_kid": BadToken(
        "has a kid that is not in the JWKS",
        "unknown_kid",
        lambda spec: encode_jws(
            spec.minter.signing_key, encode_json(spec.claims), kid="fake-kid-that-was-never-published"
        ),
    ),
    "alg_none": BadToken("is not signed", "algorithm_not_allowed", lambda spec: spec.signing_input("none") + "."),
    "hs256_with_public_key": BadToken(
        "uses the public key as an HMAC secret", "algorithm_not_allowed", _hs256_with_public_key
    ),
    "tampered": BadToken("had its user changed after signing", "bad_signature", _tampered),
    "missing_sub": BadToken("has no sub", "missing_user", lambda spec: spec.sign_claims(without="sub")),
    "other_user": BadToken(
        "is valid, but for another user",
        "other_user",
        lambda spec: spec.sign_claims({"sub": spec.other_user_id}),
        Forbidden,
    ),
    "duplicate_sub": BadToken("has two sub claims", "duplicate_payload_member", _duplicate_sub),
    "string_exp": BadToken(
        "has exp as a string", "malformed_exp", lambda spec: spec.sign_claims({"exp": str(spec.claims["exp"])})
    ),
    "oversize": BadToken(
        "is larger than 8 KiB", "oversize", lambda spec: spec.sign_claims({"padding": "x" * MAX_TOKEN_BYTES})
    ),
}
"""Every kind of bad token (see docs/how-to/tokens.md)."""


def mint_bad_token(
    kind: str, minter: Minter, user_id: str, *, now_ms: int, claims: Mapping[str, object] | None = None
) -> str:
    """Return a token that breaks one rule as of ``now_ms`` (ms since 1970).

    ``claims`` extend and override the token's own. Raises ValueError for an unknown kind, suggesting a similar one if
    possible, and TypeError if ``kind`` isn't a string.
    """
    if not isinstance(kind, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers may be untyped
        raise TypeError(f"bad must be a kind of bad token, such as 'expired', not {kind!r}")
    if kind not in BAD_TOKENS:
        hint = did_you_mean(kind, BAD_TOKENS)
        raise ValueError(f"unknown kind of bad token {kind!r}{hint} (known: {', '.join(BAD_TOKENS)})")
    good_claims = {**minter.claims(user_id, now_ms=now_ms), **(claims or {})}
    return BAD_TOKENS[kind].make(_TokenSpec(minter, good_claims, now_ms // 1000))
