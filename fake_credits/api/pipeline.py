"""The pipeline that takes one request through a sandbox, from dispatch to delivery; this module does no I/O."""

from fake_credits.api.exchange import ContractRuntime, Exchange
from fake_credits.api.fault_injection import match_faults
from fake_credits.api.handlers import authorize_and_execute
from fake_credits.contract import MAX_BODY_BYTES
from fake_credits.errors import ApiError
from fake_credits.faults.waits import CHECKPOINT, Body, ServerStopping
from fake_credits.http_message import Connection, Request, Response
from fake_credits.sandbox import Sandbox
from fake_credits.sandboxes import SandboxRegistry
from fake_credits.tokens.credentials import Credential
from fake_credits.tokens.minting import AUTH_PROVIDERS

INTERNAL_PATHS = (b"/_fake/", b"/.well-known/")
"""Prefixes of the fake's own paths; all others belong to the API, except those where provider SDKs look for keys."""

_KEYS_PATHS = tuple(
    provider.keys_path.partition("{")[0].encode() for provider in AUTH_PROVIDERS.values() if provider.keys_path
)


def dispatch(
    runtime: ContractRuntime,
    request: Request,
    sandboxes: Sandbox | SandboxRegistry,
    host_error: ApiError | None = None,
) -> Exchange | Response | None:
    """Return the exchange for an API request, the response to a preflight, or None for one of the fake's own paths.

    A request with an invalid Host (``host_error``) becomes an exchange that `handle` rejects.
    """
    if host_error is None:
        if request.target.startswith(INTERNAL_PATHS):
            return None
        if request.target.startswith(_KEYS_PATHS) and _is_keys_path(runtime, request, sandboxes):
            return None
        if request.method == "OPTIONS" and (preflight := runtime.cors.preflight_response(request.headers)) is not None:
            return preflight
    credential: Credential | ApiError
    try:
        credential = runtime.credential_reader.find(request.headers)
    except ApiError as error:
        credential = error.with_traceback(None)
    if isinstance(sandboxes, Sandbox):
        sandbox = sandboxes
    else:
        sandbox = sandboxes.resolve(None if isinstance(credential, ApiError) else credential)
    exchange = Exchange.begin(runtime, sandbox, credential, request)
    exchange.error = host_error
    return exchange


def _is_keys_path(runtime: ContractRuntime, request: Request, sandboxes: Sandbox | SandboxRegistry) -> bool:
    """Return whether the default sandbox's provider serves keys at the request's path and no operation shares it."""
    raw_path = request.target.partition(b"?")[0]
    provider = (sandboxes if isinstance(sandboxes, Sandbox) else sandboxes.default).minter.provider
    return provider.has_keys_at(raw_path.decode("latin-1")) and not runtime.routes.has_path(raw_path)


async def handle(exchange: Exchange, connection: Connection) -> None:
    """Serve one request.

    The steps are: route → method → body (size-limited) → "before" faults → credential → permission → ids → body
    decoding → domain → "after" faults → journal → delivery; see docs/reference/contract.md. A rejected request does not
    change the ledger.
    """
    try:
        try:
            exchange.match_route()
            if exchange.must_wait_for_body():
                exchange.body = await Body(MAX_BODY_BYTES)
            exchange.sandbox.clock.run_due()
            faults = match_faults(exchange, connection) if exchange.sandbox.faults.is_active else None
            if faults is None:
                authorize_and_execute(exchange)
            else:
                await faults.apply_before()
                faults.authorize_and_execute()
                await faults.apply_after()
        except ApiError as error:
            exchange.respond_with_error(error.with_traceback(None))  # the traceback would keep this frame alive
        except Exception as bug:  # noqa: BLE001 - recorded, so that the test that caused it fails
            exchange.fail_with_bug(bug)
        is_connected = await CHECKPOINT
        exchange.finish(is_connected=is_connected)
        if exchange.delivery is not None:
            await exchange.delivery.send(exchange.response, connection)
        elif exchange.response is not None:
            connection.send(exchange.response)
    except ServerStopping:
        exchange.abandon()
