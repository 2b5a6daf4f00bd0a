"""Test that OpenTelemetry's instrumentation of an application takes part: spans are made, and the header goes out."""

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
from tests.intercept.libraries import BALANCE, SENDS, TLS, Ask

URL = "https://credits.internal"
INSTRUMENTORS: dict[str, Any] = {
    "requests": RequestsInstrumentor,
    "httpx": HTTPXClientInstrumentor,
    "httpx, asyncio": HTTPXClientInstrumentor,
    "httpx, trio": HTTPXClientInstrumentor,
}


@pytest.fixture
def spans(request: pytest.FixtureRequest) -> Iterator[InMemorySpanExporter]:
    """Instrument the library of the test's parameter, as an application does when it starts."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = INSTRUMENTORS[request.getfixturevalue("library")]()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter
    instrumentor.uninstrument()
    provider.shutdown()


@pytest.fixture
def headers_out(monkeypatch: pytest.MonkeyPatch) -> list[dict[bytes, bytes]]:
    """Return a list of the headers of what arrives at the driver."""
    arrived: list[dict[bytes, bytes]] = []
    call, call_async = InProcessDriver.call, InProcessDriver.call_async

    def noting(self: InProcessDriver, request: Request) -> Response:
        arrived.append(dict(request.headers))
        return call(self, request)

    async def noting_async(self: InProcessDriver, request: Request) -> Response:
        arrived.append(dict(request.headers))
        return await call_async(self, request)

    monkeypatch.setattr(InProcessDriver, "call", noting)
    monkeypatch.setattr(InProcessDriver, "call_async", noting_async)
    return arrived


@pytest.mark.parametrize("library", INSTRUMENTORS)
def test_a_call_is_a_span_and_bears_its_trace(
    spans: InMemorySpanExporter, headers_out: list[dict[bytes, bytes]], library: str
) -> None:
    with FakeCredits(balance=5) as fake, fake.intercept(URL):
        assert SENDS[library](Ask(URL + BALANCE, {"X-API-Key": fake.api_key})).status == 200
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert 200 in span.attributes.values()
    assert any(value == URL + BALANCE for value in span.attributes.values())
    assert span.context is not None
    assert format(span.context.trace_id, "032x") in headers_out[0][b"traceparent"].decode()


@pytest.mark.parametrize("library", INSTRUMENTORS)
def test_a_fault_is_an_error_in_the_span(spans: InMemorySpanExporter, library: str) -> None:
    with FakeCredits(balance=5) as fake, fake.intercept(URL):
        fake.faults.add(Reset(), "getBalance")
        with pytest.raises((requests.ConnectionError, httpx.ReadError)):
            SENDS[library](Ask(URL + BALANCE, {"X-API-Key": fake.api_key}))
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok


@pytest.mark.parametrize("library", ["httpx"])
def test_a_client_made_before_it_was_instrumented_has_spans_too(spans: InMemorySpanExporter, library: str) -> None:
    with FakeCredits(balance=5) as fake, httpx.Client(verify=TLS) as client, fake.intercept(URL):
        HTTPXClientInstrumentor.instrument_client(client)
        assert client.get(URL + BALANCE, headers={"X-API-Key": fake.api_key}).status_code == 200
    assert library == "httpx"
    assert len(spans.get_finished_spans()) >= 1
