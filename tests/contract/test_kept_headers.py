"""Test which headers of a request are journalled: bounded, named in a setting, and never a credential."""

import pytest

from fake_credits import FakeCredits
from fake_credits.contract import DEFAULT
from fake_credits.contract.kept_headers import KeptHeaders
from fake_credits.contract.loading import contract_from

STRIPE = contract_from({"version": 1, "api_key": "X-Own-Key"})


def test_two_headers_are_always_kept() -> None:
    kept = KeptHeaders((), DEFAULT)
    assert kept.names == ("idempotency-key", "traceparent")
    fields = {b"traceparent": b"00-1", b"idempotency-key": b"k", b"x-tenant": b"a"}
    assert kept.of(fields) == {"traceparent": "00-1", "idempotency-key": "k"}
    assert kept.of({b"x-tenant": b"a"}) == {}
    assert repr(kept) == "<KeptHeaders: idempotency-key, traceparent>"


def test_others_are_kept_by_name_in_any_case_once() -> None:
    kept = KeptHeaders(("X-Tenant", "x-tenant", "Traceparent"), DEFAULT)
    assert kept.names == ("idempotency-key", "traceparent", "x-tenant")
    assert kept.of({b"x-tenant": b"\xe9"}) == {"x-tenant": "\xe9"}


def test_a_value_is_cut() -> None:
    assert KeptHeaders((), DEFAULT).of({b"traceparent": b"x" * 10_000}) == {"traceparent": "x" * 256}


@pytest.mark.parametrize("name", ["Authorization", "proxy-authorization", "COOKIE", "X-API-Key"])
def test_a_header_with_a_credential_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"keep_headers has '{name}', which carries a credential"):
        KeptHeaders((name,), DEFAULT)


def test_the_contract_says_which_carry_credentials() -> None:
    with pytest.raises(ValueError, match="credential"):
        KeptHeaders(("x-own-key",), STRIPE)
    assert "x-api-key" in KeptHeaders(("X-API-Key",), STRIPE).names


def test_an_always_kept_header_that_carries_the_key_is_not_kept() -> None:
    contract = contract_from({"version": 1, "api_key": "Traceparent"})
    assert KeptHeaders((), contract).names == ("idempotency-key",)


@pytest.mark.parametrize("name", ["", "x tenant", "x:y", "é", "x\r\ny", "x" * 65])
def test_what_is_no_name_of_a_header_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="which is no header's name"):
        KeptHeaders((name,), DEFAULT)


def test_their_number_is_bounded() -> None:
    names = [f"x-{number}" for number in range(30)]
    assert len(KeptHeaders(names, DEFAULT).names) == 32
    with pytest.raises(ValueError, match="names 33 headers: at most 32"):
        KeptHeaders([*names, "x-30"], DEFAULT)


def test_one_text_is_one_name_and_not_its_letters() -> None:
    with FakeCredits(keep_headers="x-tenant") as credits:
        assert "x-tenant" in credits.sandbox.kept_headers.names


@pytest.mark.parametrize("live", [False, True], ids=["in-process", "live"])
def test_an_exchange_s_headers_are_in_its_entry(live: bool) -> None:
    import httpx2

    with FakeCredits(users={"ada": 1}, keep_headers=("X-Tenant",)) as credits:
        base_url = credits.base_url if live else "https://credits.internal"
        transport = None if live else credits.transport("httpx2")
        headers = {"X-API-Key": credits.api_key, "X-Tenant": "a", "X-Other": "b", "Idempotency-Key": "k"}
        with httpx2.Client(base_url=base_url, transport=transport, trust_env=False) as client:
            client.get("/v1/applications/app-id/users/ada/balance", headers=headers)
        (entry,) = credits.journal.assert_called("getBalance", headers={"x-tenant": "a"}, times=1)
        assert entry.headers == {"x-tenant": "a", "idempotency-key": "k"}
        assert hash(entry) == hash(entry.request_id)
