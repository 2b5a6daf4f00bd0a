"""Verification of a user's token: claims, issuers, and the cache of verified tokens."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.errors import ApiError, Forbidden, InvalidToken, TokenExpired
from fake_credits.tokens import verifying
from fake_credits.tokens.keys import SigningKeys, VerifyingKey
from fake_credits.tokens.minting import AUTH_PROVIDERS, PLAIN_PROVIDER, Issuer, Minter, encode_jws, encode_segment
from fake_credits.tokens.verifying import MAX_CACHED_TOKENS, VerifiedToken, Verifier, verify_signature
from tests.tokens.conftest import NOW_MS

KEYS = SigningKeys()
MINTER = Minter(KEYS)
ISSUER = MINTER.issuer
VERIFIER = Verifier([ISSUER])
NOW_S = NOW_MS // 1000
VALID_CLAIMS: dict[str, object] = {"iss": PLAIN_PROVIDER.issuer, "sub": "ada", "exp": NOW_S + 60}


def mint_with_claims(**changes: object) -> str:
    """Return a token with a valid signature; None omits a claim."""
    claims = {name: value for name, value in {**VALID_CLAIMS, **changes}.items() if value is not None}
    return sign_payload(json.dumps(claims).encode())


def sign_payload(payload: bytes) -> str:
    return encode_jws(MINTER.signing_key, payload)


def verify_error(token: str, *, verifier: Verifier = VERIFIER, now_ms: int = NOW_MS) -> ApiError:
    with pytest.raises((InvalidToken, TokenExpired)) as exc_info:
        verifier.verify(token, now_ms)
    assert exc_info.value.message.isprintable()
    return exc_info.value


def test_valid_token_returns_user_issuer_and_claims() -> None:
    verified = VERIFIER.verify(mint_with_claims(plan="pro"), NOW_MS)
    assert (verified.user_id, verified.issuer, verified.claims["plan"]) == ("ada", PLAIN_PROVIDER.issuer, "pro")


def test_verified_claims_are_read_only() -> None:
    claims = VERIFIER.verify(mint_with_claims(), NOW_MS).claims
    with pytest.raises(TypeError):
        claims["sub"] = "eve"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize("payload", [b"", b"x", b"[]", b"null", b'"ada"', b"\xff", b"[" * 4000])
def test_payload_that_is_not_a_json_object_is_rejected(payload: bytes) -> None:
    assert verify_error(sign_payload(payload)).auth_reason == "malformed_payload"


def test_duplicate_claim_is_rejected() -> None:
    payload = json.dumps(VALID_CLAIMS)[:-1].encode() + b',"sub":"eve"}'
    assert verify_error(sign_payload(payload)).auth_reason == "duplicate_payload_member"


@pytest.mark.parametrize(
    "iss", [None, "", PLAIN_PROVIDER.issuer + "/", PLAIN_PROVIDER.issuer.upper(), [PLAIN_PROVIDER.issuer], 1, True, {}]
)
def test_issuer_comparison_is_exact(iss: object) -> None:
    error = verify_error(mint_with_claims(iss=iss))
    assert error.auth_reason == "wrong_issuer"
    assert PLAIN_PROVIDER.issuer in error.message


@pytest.mark.parametrize(
    ("exp", "reason"),
    [
        (None, "missing_exp"),
        (str(NOW_S + 60), "malformed_exp"),
        (True, "malformed_exp"),
        ([NOW_S], "malformed_exp"),
        ({}, "malformed_exp"),
        (10**400, "malformed_exp"),
        (-(10**400), "malformed_exp"),
        (1e300, "malformed_exp"),
        (0, "expired"),
        (-1, "expired"),
        (NOW_S - 5, "expired"),
        (NOW_S - 5.5, "expired"),
    ],
)
def test_missing_malformed_or_past_exp_is_rejected(exp: object, reason: str) -> None:
    assert verify_error(mint_with_claims(exp=exp)).auth_reason == reason


@pytest.mark.parametrize("exp", [b"null", b"NaN", b"Infinity", b"1e999"])
def test_exp_that_is_null_or_not_strict_json_is_rejected(exp: bytes) -> None:
    payload = json.dumps({**VALID_CLAIMS, "exp": 0}).encode().replace(b'"exp": 0', b'"exp": ' + exp)
    assert verify_error(sign_payload(payload)).auth_reason in ("malformed_exp", "malformed_payload")


def test_token_expires_exactly_at_the_end_of_its_leeway() -> None:
    verifier, token = Verifier([ISSUER]), mint_with_claims(exp=NOW_S)
    assert verifier.verify(token, NOW_MS + 4_999).user_id == "ada"
    assert verify_error(token, verifier=verifier, now_ms=NOW_MS + 5_000).auth_reason == "expired"


def test_expired_token_message_says_how_long_ago() -> None:
    error = verify_error(mint_with_claims(exp=NOW_S), now_ms=NOW_MS + 3_600_000)
    assert isinstance(error, TokenExpired)
    assert "3,600 s ago according to the sandbox's clock" in error.message


def test_signature_is_checked_before_expiry() -> None:
    header, payload, _ = mint_with_claims(exp=0).split(".")
    assert verify_error(f"{header}.{payload}.{encode_segment(bytes(64))}").auth_reason == "bad_signature"


@pytest.mark.parametrize(("claim", "reason"), [("nbf", "not_yet_valid"), ("iat", "issued_in_future")])
def test_token_becomes_valid_exactly_at_the_start_of_its_leeway(claim: str, reason: str) -> None:
    verifier, token = Verifier([ISSUER]), mint_with_claims(**{claim: NOW_S})
    assert verify_error(token, verifier=verifier, now_ms=NOW_MS - 5_001).auth_reason == reason
    assert verifier.verify(token, NOW_MS - 5_000).user_id == "ada"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
@pytest.mark.parametrize("value", ["1", True, [], {}, 1e300, -(10**400)])
def test_malformed_nbf_or_iat_is_rejected(claim: str, value: object) -> None:
    assert verify_error(mint_with_claims(**{claim: value})).auth_reason == f"malformed_{claim}"


def test_time_claims_may_have_fractions() -> None:
    assert VERIFIER.verify(mint_with_claims(iat=NOW_S - 0.5, nbf=0.0, exp=NOW_S + 0.25), NOW_MS).user_id == "ada"


AUDIENCE_VERIFIER = Verifier([replace(ISSUER, audience=("api", "web"))])


@pytest.mark.parametrize("aud", ["api", "web", ["api"], ["other", "web"]])
def test_configured_audience_is_accepted(aud: object) -> None:
    assert AUDIENCE_VERIFIER.verify(mint_with_claims(aud=aud), NOW_MS).user_id == "ada"


@pytest.mark.parametrize(
    "aud", [None, "", "API", "api ", [], ["other"], ["api", 1], 1, True, {}, {"api": 1}, [["api"]]]
)
def test_other_audience_is_rejected(aud: object) -> None:
    assert verify_error(mint_with_claims(aud=aud), verifier=AUDIENCE_VERIFIER).auth_reason == "wrong_audience"


def test_audience_claim_is_rejected_without_a_configured_audience() -> None:
    """RFC 7519, section 4.1.3: a recipient that is not in the audience rejects the token."""
    assert verify_error(mint_with_claims(aud="api")).auth_reason == "wrong_audience"


def test_audience_check_can_be_disabled() -> None:
    assert Verifier([replace(ISSUER, audience=None)]).verify(mint_with_claims(aud=1), NOW_MS).user_id == "ada"


def test_only_configured_authorized_parties_are_accepted() -> None:
    verifier = Verifier([replace(ISSUER, authorized_parties=("https://app.test",))])
    assert verifier.verify(mint_with_claims(azp="https://app.test"), NOW_MS).user_id == "ada"
    for azp in (None, "https://evil.test", 1, ["https://app.test"]):
        assert verify_error(mint_with_claims(azp=azp), verifier=verifier).auth_reason == "wrong_azp"


@pytest.mark.parametrize("sub", ["a", "é", "auth0|1", "a/b", " ", "x" * 256, "\N{GRINNING FACE}" * 256])
def test_user_id_of_1_to_256_characters_is_accepted(sub: str) -> None:
    assert VERIFIER.verify(mint_with_claims(sub=sub), NOW_MS).user_id == sub


@pytest.mark.parametrize("sub", ["", "x" * (256 + 1), "a\n", "\x00", "\x7f", "\x85", 1, 0, True, [], ["ada"]])
def test_malformed_user_id_is_rejected(sub: object) -> None:
    assert verify_error(mint_with_claims(sub=sub)).auth_reason == "malformed_user"


def test_missing_user_claim_is_rejected() -> None:
    assert verify_error(mint_with_claims(sub=None)).auth_reason == "missing_user"


def test_user_claim_is_configurable() -> None:
    verifier = Verifier([replace(ISSUER, user_claim="uid")])
    assert verifier.verify(mint_with_claims(uid="bob"), NOW_MS).user_id == "bob"
    assert verify_error(mint_with_claims(), verifier=verifier).auth_reason == "missing_user"


def test_require_user_rejects_other_users() -> None:
    token = VERIFIER.verify(mint_with_claims(), NOW_MS)
    token.require_user("ada")
    with pytest.raises(Forbidden) as exc_info:
        token.require_user("Ada")
    assert exc_info.value.auth_reason == "other_user"


# Several issuers


def test_duplicate_issuer_url_raises_value_error() -> None:
    with pytest.raises(ValueError, match="URL"):
        Verifier([ISSUER, ISSUER])


def test_key_of_another_issuer_is_rejected() -> None:
    """One trusted tenant can't sign tokens for another."""
    other_tenant = Minter(SigningKeys(), replace(PLAIN_PROVIDER, issuer="https://neighbour.test"))
    verifier = Verifier([ISSUER, other_tenant.issuer])
    token = other_tenant.mint("ada", now_ms=NOW_MS, claims={"iss": PLAIN_PROVIDER.issuer})
    assert verify_error(token, verifier=verifier).auth_reason == "key_of_another_issuer"


def test_algorithm_of_another_issuer_is_rejected(shared_keys: SigningKeys) -> None:
    ec, rsa = Minter(shared_keys).issuer, Minter(shared_keys, AUTH_PROVIDERS["workos"])
    token = rsa.mint("ada", now_ms=NOW_MS, claims={"iss": PLAIN_PROVIDER.issuer})
    assert verify_error(token, verifier=Verifier([ec, rsa.issuer])).auth_reason == "key_of_another_issuer"


# The cache of verified tokens


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of tokens whose signatures were verified."""
    verified_tokens: list[str] = []
    original_verify = verify_signature

    def recording_verify(token: str, issuers: Sequence[Issuer]) -> tuple[bytes, VerifyingKey]:
        verified_tokens.append(token)
        return original_verify(token, issuers)

    monkeypatch.setattr(verifying, "verify_signature", recording_verify)
    return verified_tokens


def test_repeated_token_is_verified_once(signatures: list[str]) -> None:
    verifier, token = Verifier([ISSUER]), mint_with_claims()
    assert verifier.verify(token, NOW_MS) is verifier.verify(token, NOW_MS + 1)
    assert len(signatures) == 1


def test_cached_token_still_expires(signatures: list[str]) -> None:
    verifier, token = Verifier([ISSUER]), mint_with_claims()
    verifier.verify(token, NOW_MS)
    assert verify_error(token, verifier=verifier, now_ms=NOW_MS + 65_000).auth_reason == "expired"
    assert len(signatures) == 1


def test_cached_token_is_still_checked_for_nbf() -> None:
    verifier, token = Verifier([ISSUER]), mint_with_claims(nbf=NOW_S)
    verifier.verify(token, NOW_MS)
    assert verify_error(token, verifier=verifier, now_ms=NOW_MS - 6_000).auth_reason == "not_yet_valid"


def test_rejected_token_is_not_cached(signatures: list[str]) -> None:
    verifier, token = Verifier([ISSUER]), mint_with_claims(sub=None)
    verify_error(token, verifier=verifier)
    verify_error(token, verifier=verifier)
    assert len(signatures) == 2


def test_token_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "MAX_CACHED_TOKENS", 3)
    verifier = Verifier([ISSUER])
    for number in range(10):
        verifier.verify(mint_with_claims(jti=number), NOW_MS)
        assert int(repr(verifier).rpartition("=")[2].rstrip(">")) <= 3
    assert MAX_CACHED_TOKENS == 1024


def test_repr_does_not_contain_token_or_claims() -> None:
    verifier, token = Verifier([ISSUER]), mint_with_claims(email="ada@example.com")
    text = repr(verifier.verify(token, NOW_MS)) + repr(verifier)
    assert "example.com" not in text
    assert token not in text


# Fuzzing: no input raises anything but the API's own errors


def verify_or_none(token: str) -> VerifiedToken | None:
    try:
        return VERIFIER.verify(token, NOW_MS)
    except (InvalidToken, TokenExpired) as error:
        auth_error = error
    assert auth_error.auth_reason
    assert str(auth_error).isprintable()
    return None


@given(st.text())
def test_arbitrary_text_is_rejected(token: str) -> None:
    assert verify_or_none(token) is None


@given(st.binary(), st.binary(), st.binary())
def test_arbitrary_segments_are_rejected(header: bytes, payload: bytes, signature: bytes) -> None:
    assert verify_or_none(".".join(map(encode_segment, (header, payload, signature)))) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
HEADER_NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x"])
CLAIM_NAMES = st.sampled_from(["iss", "sub", "exp", "nbf", "iat", "aud", "azp", "x"])


@given(st.dictionaries(HEADER_NAMES, JSON | st.sampled_from(["ES256", MINTER.signing_key.kid])))
def test_arbitrary_header_is_accepted_only_with_es256(header: Mapping[str, object]) -> None:
    signing_input = f"{encode_segment(json.dumps(header).encode())}.{encode_segment(json.dumps(VALID_CLAIMS).encode())}"
    signature = MINTER.signing_key.sign(signing_input.encode())
    verified = verify_or_none(f"{signing_input}.{encode_segment(signature)}")
    assert verified is None or header["alg"] == "ES256"


@given(st.dictionaries(CLAIM_NAMES, JSON))
def test_arbitrary_signed_claims_are_rejected_or_verified(changes: Mapping[str, object]) -> None:
    claims = {**VALID_CLAIMS, **changes}
    verified = verify_or_none(sign_payload(json.dumps(claims).encode()))
    assert verified is None or verified.user_id == claims["sub"]


@given(st.binary())
def test_arbitrary_signed_bytes_are_rejected(payload: bytes) -> None:
    assert verify_or_none(sign_payload(payload)) is None


@given(st.data())
def test_token_with_one_changed_character_is_rejected(data: st.DataObject) -> None:
    token = mint_with_claims()
    index = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[index]))
    assert verify_or_none(token[:index] + other + token[index + 1 :]) is None
