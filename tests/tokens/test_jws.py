"""The signature of a token and the strictness around it: size, segments, header, algorithm, key, signature."""

import json
from collections.abc import Mapping

import pytest

from fake_credits.errors import InvalidToken
from fake_credits.tokens.jws import (
    MAX_JSON_DEPTH,
    MAX_TOKEN_BYTES,
    MAX_TOKEN_HEADER_BYTES,
    format_value,
    parse_json_object,
    verify_signature,
)
from fake_credits.tokens.keys import SigningKey, SigningKeys, VerifyingKey
from fake_credits.tokens.minting import Issuer, Minter, encode_segment
from tests.tokens.conftest import NOW_MS

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.fixture
def token(minter: Minter) -> str:
    return minter.mint("ada", now_ms=NOW_MS)


def signed(key: SigningKey, header: Mapping[str, object] | bytes, payload: bytes = b"{}") -> str:
    """Return a token with a good signature over whatever header."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = f"{encode_segment(data)}.{encode_segment(payload)}"
    return f"{signing_input}.{encode_segment(key.sign(signing_input.encode()))}"


def why(token: str, *issuers: Issuer) -> str:
    with pytest.raises(InvalidToken) as refusal:
        verify_signature(token, issuers)
    assert refusal.value.message.isprintable()
    return refusal.value.auth_reason


def test_a_good_token_yields_its_payload_and_key(minter: Minter, token: str) -> None:
    result = verify_signature(token, [minter.issuer])
    assert json.loads(result.payload)["sub"] == "ada"
    assert result.key is minter.signing_key.verifying_key
    assert result.is_signed_by(minter.issuer)


def test_a_payload_may_be_empty(minter: Minter) -> None:
    token = signed(minter.signing_key, {"alg": "ES256", "kid": minter.signing_key.kid}, b"")
    assert verify_signature(token, [minter.issuer]).payload == b""


def test_a_token_of_8_kib_is_read_and_one_byte_more_is_not(minter: Minter) -> None:
    assert why("a" * MAX_TOKEN_BYTES, minter.issuer) == "malformed_segments"
    assert why("a" * (MAX_TOKEN_BYTES + 1), minter.issuer) == "oversize"


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c.d", "a.b.c.d.e"])
def test_a_token_has_three_segments(minter: Minter, token: str) -> None:
    assert why(token, minter.issuer) == "malformed_segments"


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("odd", ["=", " ", "\n", "+", "/", "é", "\ud800", "%3D", "٣"])
def test_a_segment_has_only_the_characters_of_base64url(minter: Minter, token: str, index: int, odd: str) -> None:
    segments = token.split(".")
    segments[index] += odd
    assert why(".".join(segments), minter.issuer) == "malformed_base64url"


def test_padding_is_refused(minter: Minter, token: str) -> None:
    assert why(f"{token}==", minter.issuer) == "malformed_base64url"


def test_stray_trailing_bits_are_refused(minter: Minter, token: str) -> None:
    """64 bytes of signature leave 4 unused bits in the last character: 16 spellings, one is right."""
    right = ALPHABET.index(token[-1])
    for stray in range(1, 16):
        assert why(token[:-1] + ALPHABET[right + stray], minter.issuer) == "malformed_base64url"


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
def test_a_header_is_a_json_object(minter: Minter, header: bytes) -> None:
    assert why(signed(minter.signing_key, header), minter.issuer) == "malformed_header"


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_json_nests_32_levels_deep_and_no_deeper(opened: str, closed: str) -> None:
    def nested(levels: int) -> bytes:
        return f'{{"x":{opened * (levels - 1)}1{closed * (levels - 1)}}}'.encode()

    assert parse_json_object(nested(MAX_JSON_DEPTH), "payload")
    with pytest.raises(InvalidToken, match="32 levels"):
        parse_json_object(nested(MAX_JSON_DEPTH + 1), "payload")


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert parse_json_object(b'{"x":"\\ud83d\\ude00"}', "payload") == {"x": "\N{GRINNING FACE}"}


@pytest.mark.parametrize("data", [b'{"n":' + b"9" * 5000 + b"}", b'{"n":' + b"[" * 100_000])
def test_what_python_cannot_read_is_malformed(data: bytes) -> None:
    with pytest.raises(InvalidToken) as refusal:
        parse_json_object(data, "payload")
    assert refusal.value.auth_reason == "malformed_payload"


@pytest.mark.parametrize(
    "data", [b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b'{"a":[{"b":1,"b":2}]}', b'{"a":1,"\\u0061":2}']
)
def test_a_member_stands_once_at_any_depth(data: bytes) -> None:
    with pytest.raises(InvalidToken) as refusal:
        parse_json_object(data, "header")
    assert refusal.value.auth_reason == "duplicate_header_member"


def test_a_header_over_2_kib_is_refused(minter: Minter) -> None:
    token = signed(minter.signing_key, {"alg": "ES256", "x": "y" * MAX_TOKEN_HEADER_BYTES})
    assert why(token, minter.issuer) == "oversize_header"


@pytest.mark.parametrize("name", ["crit", "jku", "x5u", "jwk", "x5c"])
@pytest.mark.parametrize("value", [None, [], "https://evil.test/jwks.json"])
def test_a_token_never_chooses_its_own_key_or_rules(minter: Minter, name: str, value: object) -> None:
    header = {"alg": "ES256", "kid": minter.signing_key.kid, name: value}
    assert why(signed(minter.signing_key, header), minter.issuer) == "refused_header"


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "", "HS256", "RS256", "es256", "ES256 ", "ES512", None, 0, [], ["ES256"], {}]
)
def test_an_algorithm_outside_the_issuers_list_is_refused(minter: Minter, alg: object) -> None:
    token = signed(minter.signing_key, {"alg": alg, "kid": minter.signing_key.kid})
    assert why(token, minter.issuer) == "algorithm_not_allowed"


def test_a_header_without_algorithm_is_refused(minter: Minter) -> None:
    assert why(signed(minter.signing_key, {"kid": "x"}), minter.issuer) == "algorithm_not_allowed"


@pytest.mark.parametrize("kid", ["", "nonsense", "../../etc/passwd", "https://evil.test/k", None, 1, ["x"], {}])
def test_a_kid_that_is_not_published_is_refused(minter: Minter, kid: object) -> None:
    assert why(signed(minter.signing_key, {"alg": "ES256", "kid": kid}), minter.issuer) == "unknown_kid"


def test_the_message_names_the_published_kids(minter: Minter) -> None:
    with pytest.raises(InvalidToken, match=minter.signing_key.kid):
        verify_signature(signed(minter.signing_key, {"alg": "ES256", "kid": "x"}), [minter.issuer])


def test_a_token_without_kid_is_good_where_one_key_could_have_signed_it() -> None:
    minter = Minter(SigningKeys())
    token = signed(minter.signing_key, {"alg": "ES256"})
    assert verify_signature(token, [minter.issuer]).key is minter.signing_key.verifying_key
    minter.keys.rotate("ES256")
    assert why(token, minter.issuer) == "missing_kid"


def test_a_key_of_another_type_is_refused(shared_keys: SigningKeys) -> None:
    """An RS256 token cannot name the ES256 key, though the issuer allows both."""
    issuer = Issuer("https://issuer.test", ("ES256", "RS256"), shared_keys)
    rsa, ec = shared_keys.current_key("RS256"), shared_keys.current_key("ES256")
    assert why(signed(rsa, {"alg": "RS256", "kid": ec.kid}), issuer) == "key_mismatch"


def test_a_signature_by_another_key_is_refused(minter: Minter) -> None:
    stranger = SigningKeys().current_key("ES256")
    token = signed(stranger, {"alg": "ES256", "kid": minter.signing_key.kid})
    assert why(token, minter.issuer) == "bad_signature"


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\0" * 63, b"\xff" * 64, b"\0" * 4096])
def test_a_made_up_signature_is_refused(minter: Minter, token: str, signature: bytes) -> None:
    signing_input = token.rpartition(".")[0]
    assert why(f"{signing_input}.{encode_segment(signature)}", minter.issuer) == "bad_signature"


def test_no_issuer_trusts_nothing(token: str) -> None:
    assert why(token) == "algorithm_not_allowed"


class OneKey:
    """Publish one key, as a foreign issuer's file would."""

    generation = 0

    def __init__(self, key: VerifyingKey) -> None:
        self._key = key

    def find(self, kid: str) -> VerifyingKey | None:
        return self._key if kid == self._key.kid else None

    def published_keys(self) -> tuple[VerifyingKey, ...]:
        return (self._key,)


def test_two_issuers_may_use_one_kid(minter: Minter) -> None:
    """The key that verifies is the one that counts, and it belongs to one of them only."""

    stranger = SigningKeys().current_key("ES256").verifying_key.key
    twin = Issuer("https://twin.test", ("ES256",), OneKey(VerifyingKey(minter.signing_key.kid, "ES256", stranger)))
    token = minter.mint("ada", now_ms=NOW_MS)
    result = verify_signature(token, [twin, minter.issuer])
    assert result.is_signed_by(minter.issuer)
    assert not result.is_signed_by(twin)


def test_what_a_message_shows_is_short_and_ascii() -> None:
    assert format_value("é\n") == r"'\xe9\n'"
    assert len(format_value("x" * 1000)) == 80
