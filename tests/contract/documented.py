"""Own whether an answer is one that the OpenAPI document of its contract describes, to the last member and header."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

import jsonschema

from fake_credits.api.openapi import openapi_document
from fake_credits.contract import Contract
from fake_credits.http_message import AsyncTransport, Request, Response, Transport

__all__ = ["AsyncChecked", "Checked", "Documented"]

Json = dict[str, Any]

_HTTPS_OWN = frozenset({"content-type", "content-length", "date", "server", "connection", "transfer-encoding"})
_ABSOLUTE = re.compile(r"^https?://[^/]*")  # RFC 9112, section 3.2.2
_formats: Any = jsonschema.FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)  # type: ignore[untyped-decorator]
def is_date_time(text: object) -> bool:
    """Tell whether a text is RFC 3339's, in UTC."""
    return not isinstance(text, str) or (text.endswith("Z") and datetime.fromisoformat(text).tzinfo is not None)


class Documented:
    """Check answers against the document of one contract, in which no object may have a member that is not named."""

    def __init__(self, contract: Contract) -> None:
        self.document: Json = json.loads(json.dumps(openapi_document(contract, "0")))
        for schema in self.document["components"]["schemas"].values():
            _close(schema)
        self._paths = [(_pattern(path), path.count("{"), item) for path, item in self.document["paths"].items()]
        self._validators: dict[int, Any] = {}  # by the identity of a schema, which the document keeps alive
        self.checked = 0

    def check(self, method: str, target: str, answer: Response) -> None:
        """Assert that an operation's answer is described; a path of no operation is refused as any operation is."""
        path = _ABSOLUTE.sub("", target.partition("?")[0])
        operation = self._operation(method, path)
        assert operation is not None or answer.status >= 400, f"{method} {path} is no operation, yet {answer.status}"
        described = operation or next(self._operations())
        self._check_answer(f"{method} {path} → {answer.status}", described, answer, headless=method == "HEAD")
        self.checked += 1

    def check_request(self, method: str, target: str, body: bytes | None) -> None:
        """Assert that the body of a request that was accepted is described."""
        operation = self._operation(method, target.partition("?")[0])
        assert operation is not None
        if body:
            self._check_schema("request", operation["requestBody"]["content"]["application/json"]["schema"], body)
        else:
            assert not operation.get("requestBody", {}).get("required", False)

    def _operations(self) -> Iterator[Json]:
        return (operation for _, _, item in self._paths for operation in item.values())

    def _operation(self, method: str, path: str) -> Json | None:
        matching = sorted((count, at) for at, (pattern, count, _) in enumerate(self._paths) if pattern.fullmatch(path))
        described = "get" if method == "HEAD" else method.lower()  # RFC 9110, section 9.3.2
        return self._paths[matching[0][1]][2].get(described) if matching else None

    def _check_answer(self, what: str, operation: Json, answer: Response, *, headless: bool) -> None:
        assert str(answer.status) in operation["responses"], f"{what} is not described: {answer.body[:200]!r}"
        described = operation["responses"][str(answer.status)]
        names = [name.decode() for name, _ in answer.headers]
        assert len(set(names)) == len(names), f"{what} has a header twice: {names}"
        headers = {name.lower(): self._resolved(header) for name, header in described["headers"].items()}
        missing = {name for name, header in headers.items() if header["required"]} - set(names)
        assert not missing, f"{what} lacks {missing}"
        unknown = set(names) - set(headers) - _HTTPS_OWN
        assert not unknown, f"{what} has {unknown}, which is not described"
        if "content" not in described:
            assert (answer.body, answer.header(b"content-type")) == (b"", ""), f"{what} has a body"
            return
        [(media_type, content)] = described["content"].items()
        assert answer.header(b"content-type") == media_type, what
        if not headless:
            self._check_schema(what, content["schema"], answer.body)

    def _resolved(self, header: Json) -> Json:
        name = header["$ref"].removeprefix("#/components/headers/")
        return cast("Json", self.document["components"]["headers"][name])

    def _check_schema(self, what: str, schema: Json, body: bytes) -> None:
        validator: Any = self._validators.get(id(schema))
        if validator is None:  # making one takes longer than what it does
            whole = {**schema, "components": self.document["components"]}
            validator = self._validators[id(schema)] = jsonschema.Draft202012Validator(whole, format_checker=_formats)
        problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(json.loads(body))]
        assert not problems, f"{what}: {body[:300]!r} is not as described: {problems}"


class Checked:
    """Carry requests on, and check each answer on its way back."""

    def __init__(self, inner: Transport, documented: Documented) -> None:
        self._inner = inner
        self._documented = documented

    def send(self, request: Request) -> Response:
        return _checked(self._documented, request, self._inner.send(request))

    def close(self) -> None:
        self._inner.close()


class AsyncChecked:
    """Be the async twin of `Validated`."""

    def __init__(self, inner: AsyncTransport, documented: Documented) -> None:
        self._inner = inner
        self._documented = documented

    async def send(self, request: Request) -> Response:
        return _checked(self._documented, request, await self._inner.send(request))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _checked(documented: Documented, request: Request, answer: Response) -> Response:
    target = request.target.decode("ascii")
    documented.check(request.method, target, answer)
    if answer.status < 400:
        documented.check_request(request.method, target, request.body)
    return answer


def _pattern(path: str) -> re.Pattern[str]:
    segments = ("[^/]+" if segment.startswith("{") else re.escape(segment) for segment in path.split("/"))
    return re.compile("/".join(segments))


def _close(schema: Any) -> None:
    """Let no object of a schema have members that it does not name."""
    if isinstance(schema, dict):
        node = cast("Json", schema)
        if "properties" in node:
            node["additionalProperties"] = False
            for member in node["properties"].values():
                _close(member)
        _close(node.get("items"))
