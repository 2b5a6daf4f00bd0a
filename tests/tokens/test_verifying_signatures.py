"""Verification of a token's size, segments, header, algorithm, key and signature."""

import json
from collections.abc import Mapping

import pytest

from fake_credits.errors import InvalidToken
from fake_credits.tokens.keys import KeySet, SigningKey, SigningKeys, VerifyingKey
from fake_credits.tokens.minting import Issuer, Minter, encode_segment
from fake_credits.tokens.verifying import (
    MAX_JSON_DEPTH,
    MAX_TOKEN_BYTES,
    MAX_TOKEN_HEADER_BYTES,
    parse_json_object,
    verify_signature,
)
from tests.tokens.conftest import NOW_MS

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.fixture
def token(minter: Minter) -> str:
    return minter.mint("ada", now_ms=NOW_MS)


def sign_token(key: SigningKey, header: Mapping[str, object] | bytes, payload: bytes = b"{}") -> str:
    """Return a token with an arbitrary header and a valid signature."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = f"{encode_segment(data)}.{encode_segment(payload)}"
    return f"{signing_input}.{encode_segment(key.sign(signing_input.encode()))}"


def rejection_reason(token: str, *issuers: Issuer) -> str:
    with pytest.raises(InvalidToken) as exc_info:
        verify_signature(token, issuers)
    assert exc_info.value.message.isprintable()
    return exc_info.value.auth_reason


def test_valid_token_returns_payload_and_key(minter: Minter, token: str) -> None:
    payload, key = verify_signature(token, [minter.issuer])
    assert json.loads(payload)["sub"] == "ada"
    assert key is minter.signing_key


def test_payload_may_be_empty(minter: Minter) -> None:
    token = sign_token(minter.signing_key, {"alg": "ES256", "kid": minter.signing_key.kid}, b"")
    assert verify_signature(token, [minter.issuer])[0] == b""


def test_token_size_is_limited_to_8_kib(minter: Minter) -> None:
    assert rejection_reason("a" * MAX_TOKEN_BYTES, minter.issuer) == "malformed_segments"
    assert rejection_reason("a" * (MAX_TOKEN_BYTES + 1), minter.issuer) == "oversize"


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c.d", "a.b.c.d.e"])
def test_token_without_three_segments_is_rejected(minter: Minter, token: str) -> None:
    assert rejection_reason(token, minter.issuer) == "malformed_segments"


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("invalid_text", ["=", " ", "\n", "+", "/", "é", "\ud800", "%3D", "٣"])
def test_characters_outside_base64url_are_rejected(minter: Minter, token: str, index: int, invalid_text: str) -> None:
    segments = token.split(".")
    segments[index] += invalid_text
    assert rejection_reason(".".join(segments), minter.issuer) == "malformed_base64url"


def test_base64_padding_is_rejected(minter: Minter, token: str) -> None:
    assert rejection_reason(f"{token}==", minter.issuer) == "malformed_base64url"


def test_non_canonical_trailing_bits_are_rejected(minter: Minter, token: str) -> None:
    """A 64-byte signature leaves 4 unused bits in the last character, so only one of 16 encodings is canonical."""
    correct_index = ALPHABET.index(token[-1])
    for offset in range(1, 16):
        assert rejection_reason(token[:-1] + ALPHABET[correct_index + offset], minter.issuer) == "malformed_base64url"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"x",
        b"[]",
        b'"x"',
        b"1",
        b"null",
        b'{"alg":"ES256"',
        b'{"alg":"\xff"}',
        b'\xef\xbb\xbf{"alg":"ES256"}',
        '{"alg":"ES256"}'.encode("utf-16"),
        b'{"x":NaN}',
        b'{"x":-Infinity}',
        b'{"x":1e999}',
        b'{"x":"\\ud800"}',
        b'{"\\udc00":1}',
        b'{"x":"\xed\xa0\x80"}',
        b'{"x":' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)
def test_header_that_is_not_a_strict_json_object_is_rejected(minter: Minter, header: bytes) -> None:
    assert rejection_reason(sign_token(minter.signing_key, header), minter.issuer) == "malformed_header"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_json_nesting_is_limited_to_32_levels(opening: str, closing: str) -> None:
    def nested(levels: int) -> bytes:
        return f'{{"x":{opening * (levels - 1)}1{closing * (levels - 1)}}}'.encode()

    assert parse_json_object(nested(MAX_JSON_DEPTH), "payload")
    with pytest.raises(InvalidToken, match="32 levels"):
        parse_json_object(nested(MAX_JSON_DEPTH + 1), "payload")


def test_surrogate_pair_is_decoded_as_one_character() -> None:
    assert parse_json_object(b'{"x":"\\ud83d\\ude00"}', "payload") == {"x": "\N{GRINNING FACE}"}


@pytest.mark.parametrize("data", [b'{"n":' + b"9" * 5000 + b"}", b'{"n":' + b"[" * 100_000])
def test_json_that_python_cannot_parse_is_malformed(data: bytes) -> None:
    with pytest.raises(InvalidToken) as exc_info:
        parse_json_object(data, "payload")
    assert exc_info.value.auth_reason == "malformed_payload"


@pytest.mark.parametrize(
    "data", [b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b'{"a":[{"b":1,"b":2}]}', b'{"a":1,"\\u0061":2}']
)
def test_duplicate_member_is_rejected_at_any_depth(data: bytes) -> None:
    with pytest.raises(InvalidToken) as exc_info:
        parse_json_object(data, "header")
    assert exc_info.value.auth_reason == "duplicate_header_member"


def test_header_over_2_kib_is_rejected(minter: Minter) -> None:
    token = sign_token(minter.signing_key, {"alg": "ES256", "x": "y" * MAX_TOKEN_HEADER_BYTES})
    assert rejection_reason(token, minter.issuer) == "oversize_header"


@pytest.mark.parametrize("name", ["crit", "jku", "x5u", "jwk", "x5c"])
@pytest.mark.parametrize("value", [None, [], "https://evil.test/jwks.json"])
def test_header_parameters_that_choose_key_or_rules_are_rejected(minter: Minter, name: str, value: object) -> None:
    header = {"alg": "ES256", "kid": minter.signing_key.kid, name: value}
    assert rejection_reason(sign_token(minter.signing_key, header), minter.issuer) == "refused_header"


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "", "HS256", "RS256", "es256", "ES256 ", "ES512", None, 0, [], ["ES256"], {}]
)
def test_algorithm_that_the_issuer_does_not_allow_is_rejected(minter: Minter, alg: object) -> None:
    token = sign_token(minter.signing_key, {"alg": alg, "kid": minter.signing_key.kid})
    assert rejection_reason(token, minter.issuer) == "algorithm_not_allowed"


def test_missing_algorithm_is_rejected(minter: Minter) -> None:
    assert rejection_reason(sign_token(minter.signing_key, {"kid": "x"}), minter.issuer) == "algorithm_not_allowed"


@pytest.mark.parametrize("kid", ["", "nonsense", "../../etc/passwd", "https://evil.test/k", None, 1, ["x"], {}])
def test_unpublished_kid_is_rejected(minter: Minter, kid: object) -> None:
    assert (
        rejection_reason(sign_token(minter.signing_key, {"alg": "ES256", "kid": kid}), minter.issuer) == "unknown_kid"
    )


def test_unknown_kid_message_lists_the_published_kids(minter: Minter) -> None:
    with pytest.raises(InvalidToken, match=minter.signing_key.kid):
        verify_signature(sign_token(minter.signing_key, {"alg": "ES256", "kid": "x"}), [minter.issuer])


def test_missing_kid_is_accepted_only_with_a_single_candidate_key() -> None:
    key, other_key = (SigningKeys().current_key("ES256") for _ in range(2))
    token = sign_token(key, {"alg": "ES256"})
    assert verify_signature(token, [Issuer("https://issuer.test", ("ES256",), KeySet([key]))])[1] is key
    issuer = Issuer("https://issuer.test", ("ES256",), KeySet([key, other_key]))
    assert rejection_reason(token, issuer) == "missing_kid"


def test_key_of_another_type_is_rejected(shared_keys: SigningKeys) -> None:
    """An RS256 token cannot name the ES256 key, although the issuer allows both."""
    issuer = Issuer("https://issuer.test", ("ES256", "RS256"), shared_keys)
    rsa, ec = shared_keys.current_key("RS256"), shared_keys.current_key("ES256")
    assert rejection_reason(sign_token(rsa, {"alg": "RS256", "kid": ec.kid}), issuer) == "key_mismatch"


def test_signature_by_another_key_is_rejected(minter: Minter) -> None:
    other_key = SigningKeys().current_key("ES256")
    token = sign_token(other_key, {"alg": "ES256", "kid": minter.signing_key.kid})
    assert rejection_reason(token, minter.issuer) == "bad_signature"


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\0" * 63, b"\xff" * 64, b"\0" * 4096])
def test_forged_signature_is_rejected(minter: Minter, token: str, signature: bytes) -> None:
    signing_input = token.rpartition(".")[0]
    assert rejection_reason(f"{signing_input}.{encode_segment(signature)}", minter.issuer) == "bad_signature"


def test_token_is_rejected_without_issuers(token: str) -> None:
    assert rejection_reason(token) == "algorithm_not_allowed"


def test_two_issuers_may_use_the_same_kid(minter: Minter) -> None:
    """The key that verifies the signature is chosen."""
    other_key = SigningKeys().current_key("ES256").key
    other_issuer = Issuer(
        "https://twin.test", ("ES256",), KeySet([VerifyingKey(minter.signing_key.kid, "ES256", other_key)])
    )
    token = minter.mint("ada", now_ms=NOW_MS)
    assert verify_signature(token, [other_issuer, minter.issuer])[1] is minter.signing_key
