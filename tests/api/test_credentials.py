"""Which credential opens what: bad tokens, providers' tokens, other users' data, and what is published to verify."""

import base64
import json

import httpx2
import jwt
import pytest

from fake_credits.contract import Operation
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.http_message import Headers, Request
from fake_credits.tokens.bad_tokens import BAD_TOKENS
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.providers import AUTH_PROVIDERS
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import APP, GRANT, Api, Got, assert_refused

READS = [Operation.GET_USER, Operation.GET_BALANCE, Operation.LIST_TRANSACTIONS]


@pytest.fixture
def ada(api: Api) -> Api:
    api.credits.user("ada", balance=100)
    api.credits.user("bob", balance=7)
    return api


def ask(api: Api, operation: Operation, user: str, who: Headers) -> Got:
    return api.ask(operation, user, who=who, body=GRANT if operation is Operation.CREATE_TRANSACTION else b"")


def cause(got: Got) -> str:
    return got.header("x-fake-credits-cause") or ""


@pytest.mark.parametrize("kind", BAD_TOKENS)
@pytest.mark.parametrize("operation", READS)
def test_a_bad_token_is_refused_with_its_code_and_why(ada: Api, kind: str, operation: Operation) -> None:
    expected = BAD_TOKENS[kind]
    got = ada.ask(operation, who=ada.as_token(ada.credits.token("ada", bad=kind)))
    assert_refused(got, expected.code)
    assert (got.status, cause(got)) == (expected.status, f"auth:{expected.auth_reason}")
    assert ada.credits.journal.entries()[-1].cause == f"auth:{expected.auth_reason}"


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("user", ["ada", "bob", "nobody"])
def test_a_users_token_reads_its_own_data_and_nothing_else(ada: Api, operation: Operation, user: str) -> None:
    before = ada.state()
    got = ask(ada, operation, user, ada.as_user("ada"))
    if operation.requires_api_key:
        assert_refused(got, "insufficient_scope")
        assert cause(got) == "auth:insufficient_scope"
    elif user == "ada":
        assert got.status == 200
    else:
        assert_refused(got, "forbidden")
        assert cause(got) == "auth:other_user"
    assert ada.state() == before


def test_a_token_is_good_for_every_application(ada: Api) -> None:
    """README, "What is a guess": a token is good for every application (a guess)."""
    ada.credits.user("ada", balance=1, application_id="other")
    assert ada.ask(Operation.GET_BALANCE, app="other", who=ada.as_user("ada")).json() == {"balance": 1}


def test_a_users_own_token_does_not_make_the_user_exist(ada: Api) -> None:
    assert_refused(ada.ask(Operation.GET_BALANCE, "carol", who=ada.as_user("carol")), "user_not_found")


@pytest.mark.parametrize("preset", AUTH_PROVIDERS)
def test_a_providers_token_is_accepted_end_to_end(mode: ClientMode, shared: SharedResources, preset: str) -> None:
    user = AUTH_PROVIDERS[preset].example_user_id
    with FakeCredits(mode=mode, shared=shared, auth_provider=preset, users={user: 3}) as fake:
        assert fake.user_client(user).get_balance(user).balance == 3
        assert fake.problems() == []


@pytest.mark.parametrize("preset", AUTH_PROVIDERS)
def test_another_providers_token_is_not(shared: SharedResources, preset: str) -> None:
    other = "plain" if preset != "plain" else "clerk"
    with (
        FakeCredits(shared=shared, auth_provider=preset) as mine,
        FakeCredits(shared=shared, auth_provider=other) as theirs,
    ):
        api = Api(mine, "in-process", shared)
        assert_refused(api.ask(Operation.GET_BALANCE, who=api.as_token(theirs.token("ada"))), "invalid_token")


# ---------------------------------------------------------------- forms


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "BeArEr ", "Bearer   ", "  Bearer "])
def test_the_scheme_has_no_case(ada: Api, scheme: str) -> None:
    """RFC 9110, section 11.1: a scheme is case-insensitive."""
    value = scheme.encode() + ada.credits.token("ada").encode()
    assert ada.ask(Operation.GET_BALANCE, who=[(b"authorization", value)]).status == 200


@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key", "X-Api-Key", "X-API-KEY"])
def test_a_headers_name_has_no_case(live: Api, name: str) -> None:
    live.credits.user("ada")
    assert live.ask(Operation.GET_USER, who=[(name.encode(), live.credits.api_key.encode())]).status == 200


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "empty"),
        (b"Bearer", "empty"),
        (b"Bearer  ", "empty"),
        (b"Basic YTpi", "unsupported_scheme"),
        (b"Bearer\tx", "unsupported_scheme"),
        (b"Bearer:x", "unsupported_scheme"),
        (b"Digest username=x", "unsupported_scheme"),
    ],
)
def test_a_header_without_a_credential_is_missing_one(ada: Api, value: bytes, why: str) -> None:
    got = ada.ask(Operation.GET_BALANCE, who=[(b"authorization", value)])
    assert_refused(got, "missing_credentials")
    assert cause(got) == f"auth:{why}"


def test_a_header_without_a_credential_is_passed_over_beside_one_that_has(ada: Api) -> None:
    who = [*ada.as_server, (b"authorization", b"Basic YTpi")]
    assert ada.ask(Operation.GET_BALANCE, who=who).status == 200


@pytest.mark.parametrize("twice", ["key", "token", "both"])
@pytest.mark.parametrize("operation", list(Operation))
def test_two_credentials_are_ambiguous(ada: Api, twice: str, operation: Operation) -> None:
    """400 ambiguous_credentials: both sent, or one of them twice, even if they are the same."""
    key, token = ada.as_server, ada.as_user("ada")
    who = {"key": [*key, *key], "token": [*token, *token], "both": [*key, *token]}[twice]
    got = ask(ada, operation, "ada", who)
    assert_refused(got, "ambiguous_credentials")
    assert cause(got) == ("auth:both" if twice == "both" else "auth:repeated")


@pytest.mark.parametrize("user", ["ada", "nobody"])
def test_a_stranger_learns_nothing_of_who_exists(ada: Api, user: str) -> None:
    for who in ([], [(b"x-api-key", b"wrong")]):
        got = ada.ask(Operation.GET_USER, user, who=who)
        assert got.status == 401
        assert user not in got.json()["error"]["message"]


@pytest.mark.parametrize(
    ("value", "challenge"),
    [
        ([], 'Bearer realm="credits"'),
        ([(b"authorization", b"Basic YTpi")], 'Bearer realm="credits"'),
        ([(b"authorization", b"Bearer nonsense")], 'Bearer realm="credits", error="invalid_token"'),
        ([(b"x-api-key", b"wrong")], 'Bearer realm="credits", error="invalid_token"'),
    ],
)
def test_a_401_bears_a_challenge(ada: Api, value: Headers, challenge: str) -> None:
    """RFC 6750, section 3.1: an error code only where a credential was sent."""
    assert ada.ask(Operation.GET_BALANCE, who=value).header("www-authenticate") == challenge


def test_no_other_refusal_bears_a_challenge(ada: Api) -> None:
    for user, who in (("bob", ada.as_user("ada")), ("nobody", ada.as_server)):
        assert ada.ask(Operation.GET_BALANCE, user, who=who).header("www-authenticate") is None


# ---------------------------------------------------------------- time


def test_a_token_ends_by_the_sandboxs_clock(ada: Api) -> None:
    """The clock is the sandbox's; leeway is 5 s."""
    ada.credits.clock.freeze()
    ada.credits.clock.advance(seconds=1 - ada.credits.clock.now_ms() % 1000 / 1000)  # tokens know whole seconds
    who = ada.as_token(ada.credits.token("ada", expires_in_s=60))
    ada.credits.clock.advance(seconds=64)
    assert ada.ask(Operation.GET_BALANCE, who=who).status == 200
    ada.credits.clock.advance(seconds=1)
    assert_refused(ada.ask(Operation.GET_BALANCE, who=who), "token_expired")


def test_the_facades_client_outlives_its_token(ada: Api) -> None:
    client = ada.credits.user_client("ada")
    client.get_balance("ada")
    ada.credits.clock.advance(days=30)
    assert client.get_balance("ada").balance == 100


def test_a_closed_sandboxs_credentials_open_nothing(api: Api, shared: SharedResources) -> None:
    with FakeCredits(mode=api.mode, shared=shared, contract=api.contract) as closed:
        if api.mode == "live":
            closed.serve()
        old = Api(closed, api.mode, shared)
        key, token = old.as_server, old.as_user()
    asked = api if api.mode == "live" else old
    assert_refused(asked.ask(Operation.GET_BALANCE, who=key), "invalid_api_key")
    got = asked.ask(Operation.GET_BALANCE, who=token)
    assert_refused(got, "invalid_token")
    assert cause(got) == "auth:closed_sandbox"


# ---------------------------------------------------------------- what is published


def document(api: Api, path: str) -> Got:
    got = api.send(Request("GET", path.encode(), [], b""))
    assert got.status == 200
    assert got.header("content-type") == "application/json"
    assert got.header("cache-control") == "no-store"
    assert got.header("x-request-id")
    return got


def test_a_token_is_verified_with_the_published_keys(ada: Api) -> None:
    keys = jwt.PyJWKSet.from_dict(document(ada, "/.well-known/jwks.json").json())
    token = ada.credits.token("ada", clock="wall")
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["ES256"], issuer=ada.credits.sandbox.issuer.url)
    assert claims["sub"] == "ada"


@pytest.mark.parametrize("preset", AUTH_PROVIDERS)
def test_discovery_names_the_issuer_and_where_its_keys_are(
    mode: ClientMode, shared: SharedResources, preset: str
) -> None:
    with FakeCredits(mode=mode, shared=shared, auth_provider=preset) as fake:
        if mode == "live":
            fake.serve()
        api = Api(fake, mode, shared)
        found = document(api, "/.well-known/openid-configuration").json()
        assert found["issuer"] == AUTH_PROVIDERS[preset].issuer
        assert found["id_token_signing_alg_values_supported"] == [AUTH_PROVIDERS[preset].algorithm]
        keys = document(api, "/" + found["jwks_uri"].split("/", 3)[3]).json()["keys"]
        assert AUTH_PROVIDERS[preset].algorithm in {key["alg"] for key in keys}
        assert jwt.get_unverified_header(fake.token())["kid"] in {key["kid"] for key in keys}


def test_the_published_keys_have_no_private_part(ada: Api) -> None:
    for key in document(ada, "/.well-known/jwks.json").json()["keys"]:
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(key)


def test_the_documents_are_no_exchanges(ada: Api) -> None:
    document(ada, "/.well-known/jwks.json")
    document(ada, "/.well-known/openid-configuration")
    assert len(ada.credits.journal) == 0


def test_an_application_reads_the_documents_through_its_own_library(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as fake, httpx2.Client(transport=fake.transport("httpx2")) as client:
        discovery = client.get("https://api.acme.com/.well-known/openid-configuration").json()
        assert discovery["jwks_uri"].startswith("http")
        assert client.get(discovery["jwks_uri"]).json() == fake.sandbox.jwks()


def test_a_stranger_with_the_right_kid_gets_nowhere(ada: Api) -> None:
    head, payload, _ = ada.credits.token("ada").split(".")
    signature = SigningKeys().current_key("ES256").sign(f"{head}.{payload}".encode())
    forged = f"{head}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    assert_refused(ada.ask(Operation.GET_BALANCE, who=ada.as_token(forged)), "invalid_token")


def test_a_token_never_shows_in_what_is_kept(ada: Api) -> None:
    token = ada.credits.token("ada")
    ada.ask(Operation.GET_BALANCE, "bob", who=ada.as_token(token))
    kept = json.dumps([str(entry) for entry in ada.credits.journal])
    assert token not in kept
    assert token.split(".")[2] not in kept
    assert ada.credits.journal.entries()[0].client == "user"
    assert ada.credits.journal.entries()[0].application == APP
