"""Whether a user's token is good, and whose it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_credits.errors import ApiError, Forbidden, InvalidToken, TokenExpired
from fake_credits.tokens import verifying
from fake_credits.tokens.jws import SignedPayload, verify_signature
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import Issuer, Minter, encode_jws, encode_segment, issuer_for
from fake_credits.tokens.providers import AUTH_PROVIDERS, PLAIN_PROVIDER
from fake_credits.tokens.verifying import MAX_CACHED_TOKENS, VerifiedToken, Verifier
from tests.tokens.conftest import NOW_MS

KEYS = SigningKeys()
MINTER = Minter(KEYS)
ISSUER = MINTER.issuer
VERIFIER = Verifier([ISSUER])
NOW_S = NOW_MS // 1000
GOOD: dict[str, object] = {"iss": PLAIN_PROVIDER.issuer, "sub": "ada", "exp": NOW_S + 60}


def with_claims(**changes: object) -> str:
    """Return a token with a good signature; a change to None leaves the claim out."""
    claims = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return of(json.dumps(claims).encode())


def of(payload: bytes) -> str:
    return encode_jws(MINTER.signing_key, payload)


def refusal(token: str, *, verifier: Verifier = VERIFIER, now_ms: int = NOW_MS) -> ApiError:
    with pytest.raises((InvalidToken, TokenExpired)) as caught:
        verifier.verify(token, now_ms)
    assert caught.value.message.isprintable()
    return caught.value


def test_a_good_token_says_whose_it_is() -> None:
    verified = VERIFIER.verify(with_claims(plan="pro"), NOW_MS)
    assert (verified.user_id, verified.issuer, verified.claims["plan"]) == ("ada", PLAIN_PROVIDER.issuer, "pro")


def test_the_claims_cannot_be_changed() -> None:
    claims = VERIFIER.verify(with_claims(), NOW_MS).claims
    with pytest.raises(TypeError):
        claims["sub"] = "eve"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize("payload", [b"", b"x", b"[]", b"null", b'"ada"', b"\xff", b"[" * 4000])
def test_a_payload_is_a_json_object(payload: bytes) -> None:
    assert refusal(of(payload)).auth_reason == "malformed_payload"


def test_a_claim_stands_once() -> None:
    payload = json.dumps(GOOD)[:-1].encode() + b',"sub":"eve"}'
    assert refusal(of(payload)).auth_reason == "duplicate_payload_member"


@pytest.mark.parametrize(
    "iss", [None, "", PLAIN_PROVIDER.issuer + "/", PLAIN_PROVIDER.issuer.upper(), [PLAIN_PROVIDER.issuer], 1, True, {}]
)
def test_an_issuer_is_compared_byte_for_byte(iss: object) -> None:
    error = refusal(with_claims(iss=iss))
    assert error.auth_reason == "wrong_issuer"
    assert PLAIN_PROVIDER.issuer in error.message


@pytest.mark.parametrize(
    ("exp", "why"),
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
def test_an_end_is_a_number_that_has_not_passed(exp: object, why: str) -> None:
    assert refusal(with_claims(exp=exp)).auth_reason == why


@pytest.mark.parametrize("exp", [b"null", b"NaN", b"Infinity", b"1e999"])
def test_an_end_that_only_lax_json_can_say_is_refused(exp: bytes) -> None:
    payload = json.dumps({**GOOD, "exp": 0}).encode().replace(b'"exp": 0', b'"exp": ' + exp)
    assert refusal(of(payload)).auth_reason in ("malformed_exp", "malformed_payload")


def test_a_token_ends_to_the_millisecond_after_its_leeway() -> None:
    verifier, token = Verifier([ISSUER]), with_claims(exp=NOW_S)
    assert verifier.verify(token, NOW_MS + 4_999).user_id == "ada"
    assert refusal(token, verifier=verifier, now_ms=NOW_MS + 5_000).auth_reason == "expired"


def test_an_expired_token_says_how_long_ago() -> None:
    error = refusal(with_claims(exp=NOW_S), now_ms=NOW_MS + 3_600_000)
    assert isinstance(error, TokenExpired)
    assert "3 600 s ago by the sandbox's clock" in error.message


def test_a_forged_token_is_never_called_expired() -> None:
    header, payload, _ = with_claims(exp=0).split(".")
    assert refusal(f"{header}.{payload}.{encode_segment(bytes(64))}").auth_reason == "bad_signature"


@pytest.mark.parametrize(("claim", "why"), [("nbf", "not_yet_valid"), ("iat", "issued_in_future")])
def test_a_token_begins_to_the_millisecond_before_its_leeway(claim: str, why: str) -> None:
    verifier, token = Verifier([ISSUER]), with_claims(**{claim: NOW_S})
    assert refusal(token, verifier=verifier, now_ms=NOW_MS - 5_001).auth_reason == why
    assert verifier.verify(token, NOW_MS - 5_000).user_id == "ada"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
@pytest.mark.parametrize("value", ["1", True, [], {}, 1e300, -(10**400)])
def test_a_beginning_is_a_number(claim: str, value: object) -> None:
    assert refusal(with_claims(**{claim: value})).auth_reason == f"malformed_{claim}"


def test_times_may_have_fractions() -> None:
    assert VERIFIER.verify(with_claims(iat=NOW_S - 0.5, nbf=0.0, exp=NOW_S + 0.25), NOW_MS).user_id == "ada"


AUDIENCE = Verifier([replace(ISSUER, audience=("api", "web"))])


@pytest.mark.parametrize("aud", ["api", "web", ["api"], ["other", "web"]])
def test_an_audience_is_one_of_the_configured(aud: object) -> None:
    assert AUDIENCE.verify(with_claims(aud=aud), NOW_MS).user_id == "ada"


@pytest.mark.parametrize(
    "aud", [None, "", "API", "api ", [], ["other"], ["api", 1], 1, True, {}, {"api": 1}, [["api"]]]
)
def test_another_audience_is_refused(aud: object) -> None:
    assert refusal(with_claims(aud=aud), verifier=AUDIENCE).auth_reason == "wrong_audience"


def test_a_token_for_others_is_refused_where_no_audience_is_configured() -> None:
    """RFC 7519, section 4.1.3: who has no name in the audience rejects the token."""
    assert refusal(with_claims(aud="api")).auth_reason == "wrong_audience"


def test_an_issuer_may_leave_the_audience_unchecked() -> None:
    assert Verifier([replace(ISSUER, audience=None)]).verify(with_claims(aud=1), NOW_MS).user_id == "ada"


def test_an_authorized_party_is_one_of_the_configured() -> None:
    verifier = Verifier([replace(ISSUER, authorized_parties=("https://app.test",))])
    assert verifier.verify(with_claims(azp="https://app.test"), NOW_MS).user_id == "ada"
    for azp in (None, "https://evil.test", 1, ["https://app.test"]):
        assert refusal(with_claims(azp=azp), verifier=verifier).auth_reason == "wrong_azp"


@pytest.mark.parametrize("sub", ["a", "é", "auth0|1", "a/b", " ", "x" * 256, "\N{GRINNING FACE}" * 256])
def test_a_user_is_1_to_256_characters(sub: str) -> None:
    assert VERIFIER.verify(with_claims(sub=sub), NOW_MS).user_id == sub


@pytest.mark.parametrize("sub", ["", "x" * (256 + 1), "a\n", "\x00", "\x7f", "\x85", 1, 0, True, [], ["ada"]])
def test_anything_else_is_no_user(sub: object) -> None:
    assert refusal(with_claims(sub=sub)).auth_reason == "malformed_user"


def test_a_token_without_a_user_is_refused() -> None:
    assert refusal(with_claims(sub=None)).auth_reason == "missing_user"


def test_another_claim_may_name_the_user() -> None:
    verifier = Verifier([replace(ISSUER, user_claim="uid")])
    assert verifier.verify(with_claims(uid="bob"), NOW_MS).user_id == "bob"
    assert refusal(with_claims(), verifier=verifier).auth_reason == "missing_user"


def test_a_user_may_see_their_own_data_only() -> None:
    token = VERIFIER.verify(with_claims(), NOW_MS)
    token.require_user("ada")
    with pytest.raises(Forbidden) as caught:
        token.require_user("Ada")
    assert caught.value.auth_reason == "other_user"


# Several issuers


def test_two_issuers_cannot_share_a_url() -> None:
    with pytest.raises(ValueError, match="URL"):
        Verifier([ISSUER, ISSUER])


def test_a_key_of_one_issuer_does_not_sign_for_another() -> None:
    """A tenant that is trusted for itself cannot speak for its neighbour."""
    neighbour = Minter(SigningKeys(), replace(PLAIN_PROVIDER, issuer="https://neighbour.test"))
    verifier = Verifier([ISSUER, neighbour.issuer])
    token = neighbour.mint("ada", now_ms=NOW_MS, claims={"iss": PLAIN_PROVIDER.issuer})
    assert refusal(token, verifier=verifier).auth_reason == "key_of_another_issuer"


def test_an_algorithm_of_one_issuer_is_not_good_for_another(shared_keys: SigningKeys) -> None:
    ec, rsa = issuer_for(PLAIN_PROVIDER, shared_keys), Minter(shared_keys, AUTH_PROVIDERS["workos"])
    token = rsa.mint("ada", now_ms=NOW_MS, claims={"iss": PLAIN_PROVIDER.issuer})
    assert refusal(token, verifier=Verifier([ec, rsa.issuer])).auth_reason == "key_of_another_issuer"


# The memory of verified tokens


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Yield the tokens whose signature was computed."""
    seen: list[str] = []
    real = verify_signature

    def counted(token: str, issuers: Sequence[Issuer]) -> SignedPayload:
        seen.append(token)
        return real(token, issuers)

    monkeypatch.setattr(verifying, "verify_signature", counted)
    return seen


def test_a_repeated_token_is_verified_once(signatures: list[str]) -> None:
    verifier, token = Verifier([ISSUER]), with_claims()
    assert verifier.verify(token, NOW_MS) is verifier.verify(token, NOW_MS + 1)
    assert len(signatures) == 1


def test_a_remembered_token_still_expires(signatures: list[str]) -> None:
    verifier, token = Verifier([ISSUER]), with_claims()
    verifier.verify(token, NOW_MS)
    assert refusal(token, verifier=verifier, now_ms=NOW_MS + 65_000).auth_reason == "expired"
    assert len(signatures) == 1


def test_a_remembered_token_is_still_not_valid_too_early() -> None:
    verifier, token = Verifier([ISSUER]), with_claims(nbf=NOW_S)
    verifier.verify(token, NOW_MS)
    assert refusal(token, verifier=verifier, now_ms=NOW_MS - 6_000).auth_reason == "not_yet_valid"


def test_a_retired_key_takes_its_remembered_tokens_with_it() -> None:
    minter = Minter(SigningKeys())
    verifier, token = Verifier([minter.issuer]), minter.mint("ada", now_ms=NOW_MS)
    verifier.verify(token, NOW_MS)
    minter.keys.retire(minter.signing_key.kid)
    assert refusal(token, verifier=verifier).auth_reason == "unknown_kid"


def test_a_token_whose_key_is_retired_during_its_verification_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    minter = Minter(SigningKeys())
    verifier, token = Verifier([minter.issuer]), minter.mint("ada", now_ms=NOW_MS)
    kid = minter.signing_key.kid

    def overtaken(token: str, issuers: Sequence[Issuer]) -> SignedPayload:
        result = verify_signature(token, issuers)
        monkeypatch.undo()
        minter.keys.rotate("ES256")
        verifier.verify(minter.mint("bob", now_ms=NOW_MS), NOW_MS)  # another thread's, which renews the memory
        return result

    monkeypatch.setattr(verifying, "verify_signature", overtaken)
    verifier.verify(token, NOW_MS)
    assert repr(verifier).endswith("1 tokens remembered>")
    minter.keys.retire(kid)
    assert refusal(token, verifier=verifier).auth_reason == "unknown_kid"


def test_a_rotated_key_still_verifies_what_it_signed() -> None:
    minter = Minter(SigningKeys())
    verifier, token = Verifier([minter.issuer]), minter.mint("ada", now_ms=NOW_MS)
    verifier.verify(token, NOW_MS)
    minter.keys.rotate("ES256")
    assert verifier.verify(token, NOW_MS).user_id == "ada"
    assert verifier.verify(minter.mint("bob", now_ms=NOW_MS), NOW_MS).user_id == "bob"


def test_a_refused_token_is_not_remembered(signatures: list[str]) -> None:
    verifier, token = Verifier([ISSUER]), with_claims(sub=None)
    refusal(token, verifier=verifier)
    refusal(token, verifier=verifier)
    assert len(signatures) == 2


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "MAX_CACHED_TOKENS", 3)
    verifier = Verifier([ISSUER])
    for number in range(10):
        verifier.verify(with_claims(jti=number), NOW_MS)
        assert int(repr(verifier).split()[-3]) <= 3
    assert MAX_CACHED_TOKENS == 1024


def test_no_repr_shows_a_token_or_its_claims() -> None:
    verifier, token = Verifier([ISSUER]), with_claims(email="ada@example.com")
    text = repr(verifier.verify(token, NOW_MS)) + repr(verifier)
    assert "example.com" not in text
    assert token not in text


# No input raises anything but the API's own errors


def outcome(token: str) -> VerifiedToken | None:
    try:
        return VERIFIER.verify(token, NOW_MS)
    except (InvalidToken, TokenExpired) as error:
        refused = error
    assert refused.auth_reason
    assert str(refused).isprintable()
    return None


@given(st.text())
def test_any_text_is_refused(token: str) -> None:
    assert outcome(token) is None


@given(st.binary(), st.binary(), st.binary())
def test_any_three_segments_are_refused(header: bytes, payload: bytes, signature: bytes) -> None:
    assert outcome(".".join(map(encode_segment, (header, payload, signature)))) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x"])
CLAIMS = st.sampled_from(["iss", "sub", "exp", "nbf", "iat", "aud", "azp", "x"])


@given(st.dictionaries(MEMBERS, JSON | st.sampled_from(["ES256", MINTER.signing_key.kid])))
def test_any_header_is_refused_or_good(header: Mapping[str, object]) -> None:
    signing_input = f"{encode_segment(json.dumps(header).encode())}.{encode_segment(json.dumps(GOOD).encode())}"
    signature = MINTER.signing_key.sign(signing_input.encode())
    verified = outcome(f"{signing_input}.{encode_segment(signature)}")
    assert verified is None or header["alg"] == "ES256"


@given(st.dictionaries(CLAIMS, JSON))
def test_any_signed_claims_are_refused_or_good(changes: Mapping[str, object]) -> None:
    claims = {**GOOD, **changes}
    verified = outcome(of(json.dumps(claims).encode()))
    assert verified is None or verified.user_id == claims["sub"]


@given(st.binary())
def test_any_signed_bytes_are_refused(payload: bytes) -> None:
    assert outcome(of(payload)) is None


@given(st.data())
def test_a_token_with_one_other_character_is_refused(data: st.DataObject) -> None:
    token = with_claims()
    index = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[index]))
    assert outcome(token[:index] + other + token[index + 1 :]) is None
