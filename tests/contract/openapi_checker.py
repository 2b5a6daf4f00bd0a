"""Strict validation of responses against the OpenAPI document of a contract."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

import jsonschema

from fake_credits.api.openapi import openapi_document
from fake_credits.contract import Contract
from fake_credits.http_message import AsyncTransport, Request, Response, Transport

__all__ = ["AsyncCheckedTransport", "CheckedTransport", "OpenApiChecker"]

Json = dict[str, Any]

_CONNECTION_HEADERS = frozenset({"content-type", "content-length", "date", "server", "connection", "transfer-encoding"})
_ABSOLUTE = re.compile(r"^https?://[^/]*")  # RFC 9112, section 3.2.2
_formats: Any = jsonschema.FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)  # type: ignore[untyped-decorator]
def is_date_time(text: object) -> bool:
    """Return whether a string is an RFC 3339 time in UTC; other values pass."""
    return not isinstance(text, str) or (text.endswith("Z") and datetime.fromisoformat(text).tzinfo is not None)


class OpenApiChecker:
    """A validator that checks exchanges against an OpenAPI document; undocumented members and headers fail."""

    def __init__(self, contract: Contract) -> None:
        self.document: Json = json.loads(json.dumps(openapi_document(contract, "0")))
        for schema in self.document["components"]["schemas"].values():
            _forbid_extra_members(schema)
        self._paths = [(_pattern(path), path.count("{"), item) for path, item in self.document["paths"].items()]
        self._validators: dict[int, Any] = {}  # keyed by id(schema); the document keeps the schemas alive
        self.check_count = 0

    def check(self, method: str, target: str, response: Response) -> None:
        """Assert that a response is documented; for an unknown path, it must be an error response."""
        path = _ABSOLUTE.sub("", target.partition("?")[0])
        operation = self._operation(method, path)
        assert operation is not None or response.status >= 400, (
            f"{method} {path} is no operation, yet {response.status}"
        )
        described = operation or next(self._operations())
        self._check_response(f"{method} {path} → {response.status}", described, response, is_head=method == "HEAD")
        self.check_count += 1

    def check_request(self, method: str, target: str, body: bytes | None) -> None:
        """Assert that the body of an accepted request is documented."""
        operation = self._operation(method, target.partition("?")[0])
        assert operation is not None
        if body:
            self._check_schema("request", operation["requestBody"]["content"]["application/json"]["schema"], body)
        else:
            assert not operation.get("requestBody", {}).get("required", False)

    def _operations(self) -> Iterator[Json]:
        return (operation for _, _, item in self._paths for operation in item.values())

    def _operation(self, method: str, path: str) -> Json | None:
        matching = sorted(
            (count, index) for index, (pattern, count, _) in enumerate(self._paths) if pattern.fullmatch(path)
        )
        described = "get" if method == "HEAD" else method.lower()  # RFC 9110, section 9.3.2
        return self._paths[matching[0][1]][2].get(described) if matching else None

    def _check_response(self, label: str, operation: Json, response: Response, *, is_head: bool) -> None:
        assert str(response.status) in operation["responses"], f"{label} is not described: {response.body[:200]!r}"
        described = self._resolve(operation["responses"][str(response.status)])
        names = [name.decode() for name, _ in response.headers]
        assert len(set(names)) == len(names), f"{label} has a header twice: {names}"
        headers = {name.lower(): self._resolve(header) for name, header in described["headers"].items()}
        missing = {name for name, header in headers.items() if header["required"]} - set(names)
        assert not missing, f"{label} lacks {missing}"
        unknown = set(names) - set(headers) - _CONNECTION_HEADERS
        assert not unknown, f"{label} has {unknown}, which is not described"
        if "content" not in described:
            assert (response.body, response.header(b"content-type")) == (b"", ""), f"{label} has a body"
            return
        [(media_type, content)] = described["content"].items()
        assert response.header(b"content-type") == media_type, label
        if not is_head:
            self._check_schema(label, content["schema"], response.body)
        if response.status >= 400 and not is_head:
            codes = described["description"].partition(": ")[2].split(", ")
            body = json.loads(response.body)
            assert body.get("error", body)["code"] in codes, f"{label} has a code that is not described: {body}"

    def _resolve(self, described: Json) -> Json:
        """Return what a reference points to, but with the reference's own description if it has one."""
        if "$ref" not in described:
            return described
        kind, name = described["$ref"].removeprefix("#/components/").split("/")
        return {**self.document["components"][kind][name], **described}

    def _check_schema(self, label: str, schema: Json, body: bytes) -> None:
        validator: Any = self._validators.get(id(schema))
        if validator is None:  # creating a validator is slower than validating
            full_schema = {**schema, "components": self.document["components"]}
            validator = self._validators[id(schema)] = jsonschema.Draft202012Validator(
                full_schema, format_checker=_formats
            )
        problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(json.loads(body))]
        assert not problems, f"{label}: {body[:300]!r} is not as described: {problems}"


class CheckedTransport:
    """A transport that checks each response."""

    def __init__(self, inner: Transport, checker: OpenApiChecker) -> None:
        self._inner = inner
        self._checker = checker

    def send(self, request: Request) -> Response:
        return _check_exchange(self._checker, request, self._inner.send(request))

    def close(self) -> None:
        self._inner.close()


class AsyncCheckedTransport:
    """The async version of `CheckedTransport`."""

    def __init__(self, inner: AsyncTransport, checker: OpenApiChecker) -> None:
        self._inner = inner
        self._checker = checker

    async def send(self, request: Request) -> Response:
        return _check_exchange(self._checker, request, await self._inner.send(request))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _check_exchange(checker: OpenApiChecker, request: Request, response: Response) -> Response:
    target = request.target.decode("ascii")
    checker.check(request.method, target, response)
    if response.status < 400:
        checker.check_request(request.method, target, request.body)
    return response


def _pattern(path: str) -> re.Pattern[str]:
    segments = ("[^/]+" if segment.startswith("{") else re.escape(segment) for segment in path.split("/"))
    return re.compile("/".join(segments))


def _forbid_extra_members(schema: Any) -> None:
    """Set `additionalProperties` to false on every object of a schema."""
    if isinstance(schema, dict):
        node = cast("Json", schema)
        if "properties" in node:
            node["additionalProperties"] = False
            for member in node["properties"].values():
                _forbid_extra_members(member)
        _forbid_extra_members(node.get("items"))
