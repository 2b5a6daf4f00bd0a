"""Which credential a request bears."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_credits
from fake_credits.contract import DEFAULT_CONTRACT, Contract, CredentialHeader
from fake_credits.errors import AmbiguousCredentials, MissingCredentials
from fake_credits.tokens.credentials import (
    AUTH_FAILURE_REASONS,
    MAX_PEEKED_TOKEN_CHARS,
    Credential,
    CredentialReader,
    peek_claims,
)
from fake_credits.tokens.minting import SANDBOX_CLAIM, Minter, encode_segment
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
def test_a_credential_is_found_where_the_contract_puts_it(headers: Headers, credential: Credential) -> None:
    assert CredentialReader(DEFAULT_CONTRACT).find(headers) == credential


@pytest.mark.parametrize(
    ("headers", "why"),
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
def test_a_missing_credential_says_why(headers: Headers, why: str) -> None:
    with pytest.raises(MissingCredentials) as refusal:
        CredentialReader(DEFAULT_CONTRACT).find(headers)
    assert refusal.value.auth_reason == why
    assert "X-API-Key" in refusal.value.message
    assert "Authorization: Bearer" in refusal.value.message


def test_a_header_without_a_credential_is_passed_over() -> None:
    """A proxy's Basic authorization does not hide an API key."""
    assert CredentialReader(DEFAULT_CONTRACT).find([(b"authorization", b"Basic YTpi"), KEY]) == Credential(
        "server", "key-1"
    )


@pytest.mark.parametrize(("headers", "why"), [([KEY, TOKEN], "both"), ([KEY, KEY], "repeated")])
def test_an_ambiguous_request_is_refused(headers: Headers, why: str) -> None:
    with pytest.raises(AmbiguousCredentials) as refusal:
        CredentialReader(DEFAULT_CONTRACT).find(headers)
    assert refusal.value.auth_reason == why
    assert "key-1" not in refusal.value.message


def test_the_contract_may_let_the_key_win() -> None:
    assert CredentialReader(Contract(both_credentials="key")).find([TOKEN, KEY]).kind == "server"


def test_the_contract_may_let_the_token_win() -> None:
    assert CredentialReader(Contract(both_credentials="token")).find([KEY, TOKEN]).kind == "user"


@pytest.mark.parametrize("headers", [[KEY, KEY, TOKEN], [KEY, TOKEN, TOKEN]])
def test_a_repeated_credential_is_refused_whoever_wins(headers: Headers) -> None:
    for knob in (Contract(both_credentials="key"), Contract(both_credentials="token")):
        with pytest.raises(AmbiguousCredentials):
            CredentialReader(knob).find(headers)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("a.b.c", "user"), ("a.b.", "user"), ("sk_test_1", "server"), ("a.b", "server"), ("a.b.c.d", "server")],
)
def test_three_segments_make_a_token_where_both_travel_alike(value: str, kind: str) -> None:
    credential = CredentialReader(SAME_FORM).find([(b"authorization", f"Bearer {value}".encode())])
    assert (credential.kind, credential.value) == (kind, value)


def test_two_schemes_of_one_header_are_told_apart() -> None:
    contract = Contract(api_key=CredentialHeader("Authorization", "Token"))
    reader = CredentialReader(contract)
    assert reader.find([(b"authorization", b"token k")]) == Credential("server", "k")
    assert reader.find([(b"authorization", b"Bearer t")]) == Credential("user", "t")


def test_a_bare_value_beside_a_scheme_of_the_same_header_is_the_other_kind() -> None:
    reader = CredentialReader(Contract(api_key=CredentialHeader("Authorization")))
    assert reader.find([(b"authorization", b"sk_1")]) == Credential("server", "sk_1")
    assert reader.find([(b"authorization", b"Bearer t")]) == Credential("user", "t")


def test_no_repr_shows_a_credential() -> None:
    assert "key-1" not in repr(Credential("server", "key-1"))


@given(st.lists(st.tuples(st.sampled_from([b"x-api-key", b"authorization", b"host"]), st.binary(max_size=20))))
def test_any_headers_give_a_credential_or_a_refusal(headers: Headers) -> None:
    for contract in (DEFAULT_CONTRACT, SAME_FORM):
        try:
            assert CredentialReader(contract).find(headers).value
        except (MissingCredentials, AmbiguousCredentials) as error:
            refused = error
        else:
            continue
        assert refused.auth_reason


def test_a_token_can_be_peeked_into_for_its_sandbox(minter: Minter) -> None:
    token = minter.mint("ada", now_ms=NOW_MS, claims={SANDBOX_CLAIM: "box-1"})
    assert peek_claims(token)[SANDBOX_CLAIM] == "box-1"


@pytest.mark.parametrize(
    "token",
    ["", "..", "a.b", "a.!.c", "a.W10.c", "a.MQ.c", "a.b.c.d", "a.\ud800.c", f"a.{encode_segment(b'[' * 6000)}.c"],
)
def test_an_odd_token_has_no_claims(token: str) -> None:
    assert peek_claims(token) == {}


def test_an_oversize_token_has_no_claims() -> None:
    payload = encode_segment(b'{"iss":"x"}' + b" " * MAX_PEEKED_TOKEN_CHARS)
    assert peek_claims(f"a.{payload}.c") == {}


@given(st.one_of(st.text(), st.binary().map(lambda data: f"a.{encode_segment(data)}.c")))
def test_peeking_never_raises(token: str) -> None:
    assert isinstance(peek_claims(token), dict)


SOURCES = [file.read_text(encoding="utf-8") for file in Path(fake_credits.__file__).parent.rglob("*.py")]
MADE = {
    "duplicate_{part}_member": ("duplicate_header_member", "duplicate_payload_member"),
    "malformed_{part}": ("malformed_header", "malformed_payload"),
    "malformed_{name}": ("malformed_exp", "malformed_iat", "malformed_nbf"),
}
FOUND = ("no_credential", "unsupported_scheme", "empty")
"""What the reader of credentials finds, and hands over under a name."""


def test_every_reason_of_the_code_is_listed_and_no_other() -> None:
    given = {why for source in SOURCES for why in re.findall(r'auth_reason=f?"([^"]+)"', source)}
    assert {why for why in given if "{" in why} == set(MADE)
    plain = {why for why in given if "{" not in why}
    assert plain | {why for whys in MADE.values() for why in whys} | set(FOUND) == set(AUTH_FAILURE_REASONS)


def test_what_the_reader_finds_stands_in_its_table() -> None:
    from fake_credits.tokens import credentials

    table: dict[str, str] = vars(credentials)["_MISSING_MESSAGES"]
    assert set(table) == set(FOUND)


def test_they_are_sorted() -> None:
    assert sorted(AUTH_FAILURE_REASONS) == list(AUTH_FAILURE_REASONS)
