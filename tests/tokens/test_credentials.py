"""Credentials in request headers, and API keys."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_credits
from fake_credits.contract import DEFAULT_CONTRACT, Contract, CredentialHeader
from fake_credits.errors import AmbiguousCredentials, MissingCredentials
from fake_credits.tokens.credentials import AUTH_FAILURE_REASONS, Credential, CredentialReader, peek_claims
from fake_credits.tokens.minting import SANDBOX_CLAIM, Minter, encode_segment
from fake_credits.tokens.verifying import MAX_TOKEN_BYTES
from tests.tokens.conftest import NOW_MS

BEARER = CredentialHeader("Authorization", "Bearer")
SAME_FORM = Contract(api_key=BEARER)

Headers = list[tuple[bytes, bytes]]

KEY = (b"x-api-key", b"key-1")
TOKEN = (b"authorization", b"Bearer a.b.c")


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([KEY], Credential("server", "key-1")),
        ([TOKEN], Credential("user", "a.b.c")),
        ([(b"host", b"api"), KEY, (b"accept", b"*/*")], Credential("server", "key-1")),
        ([(b"authorization", b"bEARER   a.b.c")], Credential("user", "a.b.c")),
        ([(b"x-api-key", b" key-1\t")], Credential("server", "key-1")),
        ([(b"x-api-key", b"cl\xe9")], Credential("server", "clé")),
    ],
)
def test_credential_is_read_from_the_contracts_header(headers: Headers, credential: Credential) -> None:
    assert CredentialReader(DEFAULT_CONTRACT).find(headers) == credential


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "no_credential"),
        ([(b"accept", b"*/*")], "no_credential"),
        ([(b"authorization", b"Basic YTpi")], "unsupported_scheme"),
        ([(b"authorization", b"a.b.c")], "unsupported_scheme"),
        ([(b"authorization", b"Bearer\ta.b.c")], "unsupported_scheme"),
        ([(b"authorization", b"Bearer")], "empty"),
        ([(b"authorization", b"Bearer  ")], "empty"),
        ([(b"authorization", b"")], "empty"),
        ([(b"x-api-key", b"")], "empty"),
    ],
)
def test_missing_credential_error_has_the_reason(headers: Headers, reason: str) -> None:
    with pytest.raises(MissingCredentials) as exc_info:
        CredentialReader(DEFAULT_CONTRACT).find(headers)
    assert exc_info.value.auth_reason == reason
    assert "X-API-Key" in exc_info.value.message
    assert "Authorization: Bearer" in exc_info.value.message


def test_header_with_another_scheme_is_ignored() -> None:
    """A proxy's Basic authorization does not hide an API key."""
    assert CredentialReader(DEFAULT_CONTRACT).find([(b"authorization", b"Basic YTpi"), KEY]) == Credential(
        "server", "key-1"
    )


@pytest.mark.parametrize(("headers", "reason"), [([KEY, TOKEN], "both"), ([KEY, KEY], "repeated")])
def test_ambiguous_credentials_are_rejected(headers: Headers, reason: str) -> None:
    with pytest.raises(AmbiguousCredentials) as exc_info:
        CredentialReader(DEFAULT_CONTRACT).find(headers)
    assert exc_info.value.auth_reason == reason
    assert "key-1" not in exc_info.value.message


def test_contract_can_prefer_the_api_key() -> None:
    assert CredentialReader(Contract(both_credentials="key")).find([TOKEN, KEY]).kind == "server"


def test_contract_can_prefer_the_token() -> None:
    assert CredentialReader(Contract(both_credentials="token")).find([KEY, TOKEN]).kind == "user"


@pytest.mark.parametrize("headers", [[KEY, KEY, TOKEN], [KEY, TOKEN, TOKEN]])
def test_repeated_credential_is_rejected_despite_a_preference(headers: Headers) -> None:
    for contract in (Contract(both_credentials="key"), Contract(both_credentials="token")):
        with pytest.raises(AmbiguousCredentials):
            CredentialReader(contract).find(headers)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("a.b.c", "user"), ("a.b.", "user"), ("sk_test_1", "server"), ("a.b", "server"), ("a.b.c.d", "server")],
)
def test_three_segments_make_a_token_when_both_kinds_share_a_header(value: str, kind: str) -> None:
    credential = CredentialReader(SAME_FORM).find([(b"authorization", f"Bearer {value}".encode())])
    assert (credential.kind, credential.value) == (kind, value)


def test_two_schemes_of_one_header_are_distinguished() -> None:
    contract = Contract(api_key=CredentialHeader("Authorization", "Token"))
    reader = CredentialReader(contract)
    assert reader.find([(b"authorization", b"token k")]) == Credential("server", "k")
    assert reader.find([(b"authorization", b"Bearer t")]) == Credential("user", "t")


def test_value_without_scheme_is_the_api_key() -> None:
    reader = CredentialReader(Contract(api_key=CredentialHeader("Authorization")))
    assert reader.find([(b"authorization", b"sk_1")]) == Credential("server", "sk_1")
    assert reader.find([(b"authorization", b"Bearer t")]) == Credential("user", "t")


def test_repr_does_not_contain_the_credential() -> None:
    assert "key-1" not in repr(Credential("server", "key-1"))


@given(st.lists(st.tuples(st.sampled_from([b"x-api-key", b"authorization", b"host"]), st.binary(max_size=20))))
def test_arbitrary_headers_yield_a_credential_or_an_error(headers: Headers) -> None:
    for contract in (DEFAULT_CONTRACT, SAME_FORM):
        try:
            assert CredentialReader(contract).find(headers).value
        except (MissingCredentials, AmbiguousCredentials) as error:
            caught_error = error
        else:
            continue
        assert caught_error.auth_reason


def test_peek_claims_returns_the_sandbox_claim(minter: Minter) -> None:
    token = minter.mint("ada", now_ms=NOW_MS, claims={SANDBOX_CLAIM: "box-1"})
    assert peek_claims(token)[SANDBOX_CLAIM] == "box-1"


@pytest.mark.parametrize(
    "token",
    ["", "..", "a.b", "a.!.c", "a.W10.c", "a.MQ.c", "a.b.c.d", "a.\ud800.c", f"a.{encode_segment(b'[' * 6000)}.c"],
)
def test_peek_claims_of_malformed_token_is_empty(token: str) -> None:
    assert peek_claims(token) == {}


def test_peek_claims_of_oversize_token_is_empty() -> None:
    payload = encode_segment(b'{"iss":"x"}' + b" " * MAX_TOKEN_BYTES)
    assert peek_claims(f"a.{payload}.c") == {}


@given(st.one_of(st.text(), st.binary().map(lambda data: f"a.{encode_segment(data)}.c")))
def test_peek_claims_never_raises(token: str) -> None:
    assert isinstance(peek_claims(token), dict)


SOURCES = [file.read_text(encoding="utf-8") for file in Path(fake_credits.__file__).parent.rglob("*.py")]
FORMATTED_REASONS = {
    "duplicate_{part}_member": ("duplicate_header_member", "duplicate_payload_member"),
    "malformed_{part}": ("malformed_header", "malformed_payload"),
    "malformed_{name}": ("malformed_exp", "malformed_iat", "malformed_nbf"),
}
READER_REASONS = ("no_credential", "unsupported_scheme", "empty")
"""Reasons that `CredentialReader` passes in a variable, so the pattern below does not match them."""
TIME_REASONS = ("not_yet_valid", "issued_in_future")
"""Reasons that `fake_credits.tokens.verifying` passes in a variable, too."""


def test_auth_failure_reasons_lists_exactly_the_reasons_in_the_code() -> None:
    pattern = r'(?:auth_reason=|_invalid_token\(\s*)f?"([^"]+)"'
    reasons = {reason for source in SOURCES for reason in re.findall(pattern, source)}
    assert {reason for reason in reasons if "{" in reason} == set(FORMATTED_REASONS)
    literal_reasons = {reason for reason in reasons if "{" not in reason}
    formatted_reasons = {reason for names in FORMATTED_REASONS.values() for reason in names}
    assert literal_reasons | formatted_reasons | {*READER_REASONS, *TIME_REASONS} == set(AUTH_FAILURE_REASONS)


def test_reader_has_a_message_for_each_of_its_reasons() -> None:
    from fake_credits.tokens import credentials

    table: dict[str, str] = vars(credentials)["_MISSING_MESSAGES"]
    assert set(table) == set(READER_REASONS)


def test_auth_failure_reasons_are_sorted() -> None:
    assert sorted(AUTH_FAILURE_REASONS) == list(AUTH_FAILURE_REASONS)
