"""Test that OpenTelemetry's instrumentation works with interception: spans are created and headers are sent."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fake_credits.fake import FakeCredits
from fake_credits.faults.effects import Reset
from fake_credits.http_message import Request, Response
from fake_credits.transports.in_process import InProcessDriver
from tests.intercept.libraries import BALANCE, SENDERS, TLS, LibraryRequest

URL = "https://credits.internal"
INSTRUMENTORS: dict[str, Any] = {
    "requests": RequestsInstrumentor,
    "httpx": HTTPXClientInstrumentor,
    "httpx, asyncio": HTTPXClientInstrumentor,
    "httpx, trio": HTTPXClientInstrumentor,
}


@pytest.fixture
def spans(request: pytest.FixtureRequest) -> Iterator[InMemorySpanExporter]:
    """Instrument the library under test, as an application does at startup."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = INSTRUMENTORS[request.getfixturevalue("library")]()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter
    instrumentor.uninstrument()
    provider.shutdown()


@pytest.fixture
def request_headers(monkeypatch: pytest.MonkeyPatch) -> list[dict[bytes, bytes]]:
    """Record the headers of the requests that reach the driver."""
    headers: list[dict[bytes, bytes]] = []
    call, call_async = InProcessDriver.call, InProcessDriver.call_async

    def record_call(self: InProcessDriver, request: Request) -> Response:
        headers.append(dict(request.headers))
        return call(self, request)

    async def record_call_async(self: InProcessDriver, request: Request) -> Response:
        headers.append(dict(request.headers))
        return await call_async(self, request)

    monkeypatch.setattr(InProcessDriver, "call", record_call)
    monkeypatch.setattr(InProcessDriver, "call_async", record_call_async)
    return headers


@pytest.mark.parametrize("library", INSTRUMENTORS)
def test_call_creates_span_and_sends_traceparent(
    spans: InMemorySpanExporter, request_headers: list[dict[bytes, bytes]], library: str
) -> None:
    with FakeCredits(balance=5) as fake, fake.intercept(URL):
        assert SENDERS[library](LibraryRequest(URL + BALANCE, {"X-API-Key": fake.api_key})).status == 200
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert 200 in span.attributes.values()
    assert any(value == URL + BALANCE for value in span.attributes.values())
    assert span.context is not None
    assert format(span.context.trace_id, "032x") in request_headers[0][b"traceparent"].decode()


@pytest.mark.parametrize("library", INSTRUMENTORS)
def test_fault_sets_span_status_to_error(spans: InMemorySpanExporter, library: str) -> None:
    with FakeCredits(balance=5) as fake, fake.intercept(URL):
        fake.faults.add(Reset(), "getBalance")
        with pytest.raises((requests.ConnectionError, httpx.ReadError)):
            SENDERS[library](LibraryRequest(URL + BALANCE, {"X-API-Key": fake.api_key}))
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok


@pytest.mark.parametrize("library", ["httpx"])
def test_client_instrumented_later_creates_spans(spans: InMemorySpanExporter, library: str) -> None:
    with FakeCredits(balance=5) as fake, httpx.Client(verify=TLS) as client, fake.intercept(URL):
        HTTPXClientInstrumentor.instrument_client(client)
        assert client.get(URL + BALANCE, headers={"X-API-Key": fake.api_key}).status_code == 200
    assert library == "httpx"
    assert len(spans.get_finished_spans()) >= 1
