"""Credentials: bad tokens, auth providers, access to other users, and the published keys."""

import base64
import json
from dataclasses import replace

import httpx2
import jwt
import pytest

from fake_credits.contract import DEFAULT_CONTRACT, Operation, RouteTemplate
from fake_credits.fake import ClientMode, FakeCredits
from fake_credits.http_message import Headers, Request
from fake_credits.sandbox_options import AuthProviderName
from fake_credits.tokens.bad_tokens import BAD_TOKENS, BadTokenKind
from fake_credits.tokens.keys import SigningKeys
from fake_credits.tokens.minting import AUTH_PROVIDERS
from fake_credits.transports.shared_resources import SharedResources
from tests.api.conftest import APP, GRANT, Api, ApiResponse, assert_error

READS = [Operation.GET_USER, Operation.GET_BALANCE, Operation.LIST_TRANSACTIONS]


@pytest.fixture
def api_with_ada(api: Api) -> Api:
    api.credits.user("ada", balance=100)
    api.credits.user("bob", balance=7)
    return api


def call_operation(api: Api, operation: Operation, user: str, credentials: Headers) -> ApiResponse:
    return api.call(
        operation, user, credentials=credentials, body=GRANT if operation is Operation.CREATE_TRANSACTION else b""
    )


def cause_of(response: ApiResponse) -> str:
    return response.header("x-fake-credits-cause") or ""


@pytest.mark.parametrize("kind", BAD_TOKENS)
@pytest.mark.parametrize("operation", READS)
def test_bad_token_is_rejected_with_code_and_reason(
    api_with_ada: Api, kind: BadTokenKind, operation: Operation
) -> None:
    expected = BAD_TOKENS[kind]
    response = api_with_ada.call(
        operation, credentials=api_with_ada.as_token(api_with_ada.credits.token("ada", bad=kind))
    )
    assert_error(response, expected.code)
    assert (response.status, cause_of(response)) == (expected.status, f"auth:{expected.auth_reason}")
    assert api_with_ada.credits.journal.entries()[-1].cause == f"auth:{expected.auth_reason}"


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("user", ["api_with_ada", "bob", "nobody"])
def test_user_token_reads_only_its_own_user(api_with_ada: Api, operation: Operation, user: str) -> None:
    before = api_with_ada.state()
    response = call_operation(api_with_ada, operation, user, api_with_ada.as_user("ada"))
    if operation.requires_api_key:
        assert_error(response, "insufficient_scope")
        assert cause_of(response) == "auth:insufficient_scope"
    elif user == "ada":
        assert response.status == 200
    else:
        assert_error(response, "forbidden")
        assert cause_of(response) == "auth:other_user"
    assert api_with_ada.state() == before


def test_token_is_valid_for_every_application(api_with_ada: Api) -> None:
    """The API README does not say so; this is a guess (docs/explanation/fidelity.md)."""
    api_with_ada.credits.user("ada", balance=1, application_id="other")
    assert api_with_ada.call(Operation.GET_BALANCE, app="other", credentials=api_with_ada.as_user("ada")).json() == {
        "balance": 1
    }


def test_token_does_not_create_its_user(api_with_ada: Api) -> None:
    assert_error(
        api_with_ada.call(Operation.GET_BALANCE, "carol", credentials=api_with_ada.as_user("carol")), "user_not_found"
    )


@pytest.mark.parametrize("preset", AUTH_PROVIDERS)
def test_auth_provider_token_is_accepted(mode: ClientMode, shared: SharedResources, preset: AuthProviderName) -> None:
    user = AUTH_PROVIDERS[preset].example_user_id
    with FakeCredits(mode=mode, shared=shared, auth_provider=preset, users={user: 3}) as fake:
        assert fake.user_client(user).get_balance(user).balance == 3
        assert fake.problems() == []


@pytest.mark.parametrize("preset", AUTH_PROVIDERS)
def test_token_of_another_auth_provider_is_rejected(shared: SharedResources, preset: AuthProviderName) -> None:
    other: AuthProviderName = "plain" if preset != "plain" else "clerk"
    with (
        FakeCredits(shared=shared, auth_provider=preset) as own,
        FakeCredits(shared=shared, auth_provider=other) as foreign,
    ):
        api = Api(own, "in-process", shared)
        assert_error(api.call(Operation.GET_BALANCE, credentials=api.as_token(foreign.token("ada"))), "invalid_token")


# ---------------------------------------------------------------- forms


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "BeArEr ", "Bearer   ", "  Bearer "])
def test_authorization_scheme_is_case_insensitive(api_with_ada: Api, scheme: str) -> None:
    """RFC 9110, section 11.1: a scheme is case-insensitive."""
    value = scheme.encode() + api_with_ada.credits.token("ada").encode()
    assert api_with_ada.call(Operation.GET_BALANCE, credentials=[(b"authorization", value)]).status == 200


@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key", "X-Api-Key", "X-API-KEY"])
def test_header_name_is_case_insensitive(live_api: Api, name: str) -> None:
    live_api.credits.user("ada")
    assert (
        live_api.call(Operation.GET_USER, credentials=[(name.encode(), live_api.credits.api_key.encode())]).status
        == 200
    )


@pytest.mark.parametrize(
    ("value", "auth_reason"),
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
def test_authorization_header_without_credential_is_rejected(api_with_ada: Api, value: bytes, auth_reason: str) -> None:
    response = api_with_ada.call(Operation.GET_BALANCE, credentials=[(b"authorization", value)])
    assert_error(response, "missing_credentials")
    assert cause_of(response) == f"auth:{auth_reason}"


def test_unusable_authorization_header_next_to_api_key_is_ignored(api_with_ada: Api) -> None:
    credentials = [*api_with_ada.as_server, (b"authorization", b"Basic YTpi")]
    assert api_with_ada.call(Operation.GET_BALANCE, credentials=credentials).status == 200


@pytest.mark.parametrize("repeated", ["key", "token", "both"])
@pytest.mark.parametrize("operation", list(Operation))
def test_multiple_credentials_are_rejected_as_ambiguous(api_with_ada: Api, repeated: str, operation: Operation) -> None:
    """Sending both credentials, or one of them twice, gives 400 ambiguous_credentials, even if the values are equal."""
    key, token = api_with_ada.as_server, api_with_ada.as_user("ada")
    credentials = {"key": [*key, *key], "token": [*token, *token], "both": [*key, *token]}[repeated]
    response = call_operation(api_with_ada, operation, "ada", credentials)
    assert_error(response, "ambiguous_credentials")
    assert cause_of(response) == ("auth:both" if repeated == "both" else "auth:repeated")


@pytest.mark.parametrize("user", ["api_with_ada", "nobody"])
def test_unauthenticated_request_does_not_reveal_existing_users(api_with_ada: Api, user: str) -> None:
    for credentials in ([], [(b"x-api-key", b"wrong")]):
        response = api_with_ada.call(Operation.GET_USER, user, credentials=credentials)
        assert response.status == 401
        assert user not in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("value", "challenge"),
    [
        ([], 'Bearer realm="credits"'),
        ([(b"authorization", b"Basic YTpi")], 'Bearer realm="credits"'),
        ([(b"authorization", b"Bearer nonsense")], 'Bearer realm="credits", error="invalid_token"'),
        ([(b"x-api-key", b"wrong")], 'Bearer realm="credits", error="invalid_token"'),
    ],
)
def test_401_response_has_challenge(api_with_ada: Api, value: Headers, challenge: str) -> None:
    """The challenge has an error code only if a credential was sent (RFC 6750, section 3.1)."""
    assert api_with_ada.call(Operation.GET_BALANCE, credentials=value).header("www-authenticate") == challenge


def test_other_errors_have_no_challenge(api_with_ada: Api) -> None:
    for user, credentials in (("bob", api_with_ada.as_user("ada")), ("nobody", api_with_ada.as_server)):
        assert (
            api_with_ada.call(Operation.GET_BALANCE, user, credentials=credentials).header("www-authenticate") is None
        )


# ---------------------------------------------------------------- time


def test_token_expires_by_sandbox_clock(api_with_ada: Api) -> None:
    """The leeway is 5 s."""
    api_with_ada.credits.clock.freeze()
    api_with_ada.credits.clock.advance(
        seconds=1 - api_with_ada.credits.clock.now_ms() % 1000 / 1000
    )  # token times are in whole seconds
    credentials = api_with_ada.as_token(api_with_ada.credits.token("ada", expires_in_s=60))
    api_with_ada.credits.clock.advance(seconds=64)
    assert api_with_ada.call(Operation.GET_BALANCE, credentials=credentials).status == 200
    api_with_ada.credits.clock.advance(seconds=1)
    assert_error(api_with_ada.call(Operation.GET_BALANCE, credentials=credentials), "token_expired")


def test_user_client_refreshes_its_expired_token(api_with_ada: Api) -> None:
    client = api_with_ada.credits.user_client("ada")
    client.get_balance("ada")
    api_with_ada.credits.clock.advance(days=30)
    assert client.get_balance("ada").balance == 100


def test_credentials_of_closed_sandbox_are_rejected(api: Api, shared: SharedResources) -> None:
    with FakeCredits(mode=api.mode, shared=shared, contract=api.contract) as closed:
        if api.mode == "live":
            closed.serve()
        old = Api(closed, api.mode, shared)
        key, token = old.as_server, old.as_user()
    caller_api = api if api.mode == "live" else old
    assert_error(caller_api.call(Operation.GET_BALANCE, credentials=key), "invalid_api_key")
    response = caller_api.call(Operation.GET_BALANCE, credentials=token)
    assert_error(response, "invalid_token")
    assert cause_of(response) == "auth:closed_sandbox"


# ---------------------------------------------------------------- discovery and JWKS


def get_document(api: Api, path: str) -> ApiResponse:
    response = api.send(Request("GET", path.encode(), [], b""))
    assert response.status == 200
    assert response.header("content-type") == "application/json"
    assert response.header("cache-control") == "no-store"
    assert response.header("x-request-id")
    return response


def test_token_verifies_against_published_jwks(api_with_ada: Api) -> None:
    keys = jwt.PyJWKSet.from_dict(get_document(api_with_ada, "/.well-known/jwks.json").json())
    token = api_with_ada.credits.token("ada", clock="wall")
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["ES256"], issuer=api_with_ada.credits.sandbox.minter.issuer.url)
    assert claims["sub"] == "ada"


@pytest.mark.parametrize("preset", AUTH_PROVIDERS)
def test_discovery_document_names_issuer_and_jwks_uri(
    mode: ClientMode, shared: SharedResources, preset: AuthProviderName
) -> None:
    with FakeCredits(mode=mode, shared=shared, auth_provider=preset) as fake:
        if mode == "live":
            fake.serve()
        api = Api(fake, mode, shared)
        discovery = get_document(api, "/.well-known/openid-configuration").json()
        assert discovery["issuer"] == AUTH_PROVIDERS[preset].issuer
        assert discovery["id_token_signing_alg_values_supported"] == [AUTH_PROVIDERS[preset].algorithm]
        keys = get_document(api, "/" + discovery["jwks_uri"].split("/", 3)[3]).json()["keys"]
        assert AUTH_PROVIDERS[preset].algorithm in {key["alg"] for key in keys}
        assert jwt.get_unverified_header(fake.token())["kid"] in {key["kid"] for key in keys}


REQUIRED_DISCOVERY_MEMBERS = {
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "response_types_supported",
    "subject_types_supported",
    "id_token_signing_alg_values_supported",
}


def test_discovery_document_has_every_required_member(api: Api) -> None:
    """OpenID Connect Discovery 1.0, section 3."""
    document = get_document(api, "/.well-known/openid-configuration").json()
    assert not REQUIRED_DISCOVERY_MEMBERS - document.keys()


KEYS_PATHS = {"clerk": "/v1/jwks", "supabase": "/auth/v1/.well-known/jwks.json", "workos": "/sso/jwks/client_01FAKE"}


@pytest.mark.parametrize("preset", ["plain", *KEYS_PATHS])
def test_keys_are_served_at_path_used_by_active_providers_sdk(
    mode: ClientMode, shared: SharedResources, preset: AuthProviderName
) -> None:
    with FakeCredits(mode=mode, shared=shared, auth_provider=preset) as fake:
        if mode == "live":
            fake.serve()
        api = Api(fake, mode, shared)
        for provider, path in KEYS_PATHS.items():
            # Clerk's SDK sends its secret key, which is neither an API key nor a token here.
            response = api.send(Request("GET", path.encode(), [(b"authorization", b"Bearer sk_test_1")], b""))
            if provider == preset:
                assert (response.status, response.json()) == (200, fake.sandbox.jwks())
            else:
                assert_error(response, "route_not_found")
        journal = [entry.status for entry in fake.journal]
        assert journal == [404] * (len(KEYS_PATHS) - (preset in KEYS_PATHS))


def test_contract_operation_at_keys_path_takes_precedence(shared: SharedResources) -> None:
    routes = {**DEFAULT_CONTRACT.routes, Operation.LIST_USERS: RouteTemplate("GET", "/v1/{applicationId}")}
    contract = replace(DEFAULT_CONTRACT, routes=routes)
    with FakeCredits(shared=shared, auth_provider="clerk", contract=contract) as fake:
        fake.user("ada", application_id="jwks")
        api = Api(fake, "in-process", shared)
        key = (contract.api_key.header.lower().encode(), fake.api_key.encode())
        assert [user["userId"] for user in api.send(Request("GET", b"/v1/jwks", [key], b"")).json()["users"]] == ["ada"]


def test_keys_path_with_invalid_escape_is_served(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, auth_provider="workos") as fake:
        assert Api(fake, "in-process", shared).send(Request("GET", b"/sso/jwks/%zz", [], b"")).status == 200


def test_issuer_can_be_the_servers_own_url(shared: SharedResources) -> None:
    """Libraries that use discovery reject a document that names a different issuer."""
    with FakeCredits(shared=shared, issuer="server", users={"ada": 5}) as fake, httpx2.Client() as client:
        url = fake.base_url
        discovery = client.get(f"{url}/.well-known/openid-configuration").json()
        key = jwt.PyJWKSet.from_dict(client.get(discovery["jwks_uri"]).json()).keys[0]
        claims = jwt.decode(fake.token("ada"), key, algorithms=["ES256"], issuer=url)
        assert (discovery["issuer"], claims["iss"]) == (url, url)
        assert fake.user_client("ada").get_balance("ada").balance == 5


def test_issuer_can_be_any_url(shared: SharedResources) -> None:
    with FakeCredits(shared=shared, issuer="https://login.acme.example/", users={"ada": 5}) as fake:
        assert (
            jwt.decode(fake.token("ada"), options={"verify_signature": False})["iss"] == "https://login.acme.example/"
        )
        assert fake.user_client("ada").get_balance("ada").balance == 5


@pytest.mark.parametrize("issuer", ["acme", "ftp://acme.example", "https://", "https://a/?b"])
def test_issuer_that_is_not_a_url_is_rejected(issuer: str) -> None:
    with pytest.raises(ValueError, match='issuer=.*must be an http or https URL, or "server"'):
        FakeCredits(issuer=issuer)


def test_published_keys_have_no_private_part(api_with_ada: Api) -> None:
    for key in get_document(api_with_ada, "/.well-known/jwks.json").json()["keys"]:
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(key)


def test_discovery_and_jwks_requests_are_not_journaled(api_with_ada: Api) -> None:
    get_document(api_with_ada, "/.well-known/jwks.json")
    get_document(api_with_ada, "/.well-known/openid-configuration")
    assert len(api_with_ada.credits.journal) == 0


def test_discovery_documents_are_served_through_http_library(shared: SharedResources) -> None:
    with FakeCredits(shared=shared) as fake, httpx2.Client(transport=fake.transport("httpx2")) as client:
        discovery = client.get("https://api.acme.com/.well-known/openid-configuration").json()
        assert discovery["jwks_uri"].startswith("http")
        assert client.get(discovery["jwks_uri"]).json() == fake.sandbox.jwks()


def test_token_signed_with_another_key_but_known_kid_is_rejected(api_with_ada: Api) -> None:
    head, payload, _ = api_with_ada.credits.token("ada").split(".")
    signature = SigningKeys().current_key("ES256").sign(f"{head}.{payload}".encode())
    forged = f"{head}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    assert_error(api_with_ada.call(Operation.GET_BALANCE, credentials=api_with_ada.as_token(forged)), "invalid_token")


def test_token_never_appears_in_journal(api_with_ada: Api) -> None:
    token = api_with_ada.credits.token("ada")
    api_with_ada.call(Operation.GET_BALANCE, "bob", credentials=api_with_ada.as_token(token))
    journal_text = json.dumps([str(entry) for entry in api_with_ada.credits.journal])
    assert token not in journal_text
    assert token.split(".")[2] not in journal_text
    assert api_with_ada.credits.journal.entries()[0].client == "user"
    assert api_with_ada.credits.journal.entries()[0].application == APP
