"""Own the OpenAPI 3.1 document of a contract: made from the same settings as the answers; know nothing of requests."""

import http
import re
from collections.abc import Collection
from typing import Any

from fake_credits.contract import BODY_LIMIT_BYTES, MAX_AMOUNT, Contract, Operation
from fake_credits.errors import ERRORS
from fake_credits.http_status import reason_phrase
from fake_credits.models import Reason

__all__ = ["openapi"]

Json = dict[str, Any]  # JSON nests without end, and no type checker can follow it

_SUMMARIES = {
    Operation.CREATE_USER: "Create or update a user (idempotent)",
    Operation.GET_USER: "Get user information",
    Operation.LIST_USERS: "List all users in the application",
    Operation.GET_BALANCE: "Get user's credit balance",
    Operation.CREATE_TRANSACTION: "Create a credit transaction (grant/consume/refund)",
    Operation.LIST_TRANSACTIONS: "List user's transaction history",
}
_LISTS = (Operation.LIST_USERS, Operation.LIST_TRANSACTIONS)
_BODIES = (Operation.CREATE_USER, Operation.CREATE_TRANSACTION)

# Codes that an operation can't answer with; all others are every operation's.
_ONLY_FOR: dict[str, tuple[Operation, ...]] = {
    "insufficient_credits": (Operation.CREATE_TRANSACTION,),
    "balance_limit_exceeded": (Operation.CREATE_TRANSACTION,),
    "malformed_json": _BODIES,
    "unsupported_media_type": _BODIES,
    "invalid_cursor": _LISTS,
    "insufficient_scope": (Operation.CREATE_USER, Operation.LIST_USERS, Operation.CREATE_TRANSACTION),
    "user_not_found": tuple(each for each in Operation if each not in (Operation.CREATE_USER, Operation.LIST_USERS)),
}
_PYTHONS_OWN = re.compile(r"\(\?[aiLmsuxP]|\\[AZ]")  # JSON Schema's patterns are those of ECMA-262
_ALWAYS = ("X-Request-Id", "Cache-Control")
_CORS = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary")
_REQUIRED = (*_ALWAYS, "X-Fake-Credits-Cause", "WWW-Authenticate")
_HEADERS = {
    "X-Request-Id": "names this exchange in the journal",
    "Cache-Control": "`no-store`",
    "X-Fake-Credits-Cause": "why this is no success: `fault:…`, `auth:…`, `validation`, `domain`, `routing`, `limit`, "
    "`host`, `bug`",
    "WWW-Authenticate": "the challenge of RFC 6750",
    "Allow": "the methods that the path has",
    "Retry-After": "when to try again",
    "Access-Control-Allow-Origin": "to a request with an Origin that the contract allows",
    "Access-Control-Expose-Headers": "to a request with an Origin that the contract allows",
    "Vary": "`Origin`, to a request with an Origin out of a list of them",
}


def openapi(contract: Contract, version: str) -> Json:
    """Return the document; ``version`` is the package's."""
    paths: dict[str, Json] = {}
    for operation, route in contract.routes.items():
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(contract, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Credits Management API (fake-credits)",
            "version": version,
            "description": "What fake-credits answers under this contract. Not affiliated with ocx-inc.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(contract),
            "headers": {name: _header(name, doc) for name, doc in _HEADERS.items()},
            "securitySchemes": _security_schemes(contract),
        },
    }


def _operation(contract: Contract, operation: Operation) -> Json:
    described: Json = {
        "operationId": operation.value,
        "summary": _SUMMARIES[operation],
        "security": [{"apiKey": []}] if operation.server_only else [{"apiKey": []}, {"userToken": []}],
        "parameters": _parameters(contract, operation),
    }
    if operation in _BODIES:
        described["requestBody"] = _request_body(operation)
    described["responses"] = {**_successes(contract, operation), **_refusals(contract, operation)}
    return described


def _parameters(contract: Contract, operation: Operation) -> list[Json]:
    names = ["applicationId"] if operation is Operation.LIST_USERS else ["applicationId", "userId"]
    identifier: Json = {"type": "string", "minLength": 1, "maxLength": contract.id_max_length}
    if contract.id_pattern and _PYTHONS_OWN.search(contract.id_pattern):
        identifier["description"] = f"matches, as a whole, Python's regular expression {contract.id_pattern}"
    elif contract.id_pattern:
        identifier["pattern"] = f"^(?:{contract.id_pattern})$"
    parameters: list[Json] = [{"name": name, "in": "path", "required": True, "schema": identifier} for name in names]
    if operation in _LISTS:
        parameters.append(_query(contract.cursor_parameter, "`nextCursor` of another page", {"type": "string"}))
        if contract.limit_parameter:
            size: Json = {"type": "integer", "minimum": 1, "maximum": 1000, "default": contract.page_size}
            parameters.append(_query(contract.limit_parameter, "entries a page", size))
    return parameters


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _request_body(operation: Operation) -> Json:
    if operation is Operation.CREATE_USER:
        schema: Json = {"type": "object", "additionalProperties": False}
        return {"required": False, "content": {"application/json": {"schema": schema}}}
    content = {"application/json": {"schema": _ref("CreateTransactionRequest")}}
    return {"required": True, "description": f"At most {BODY_LIMIT_BYTES} bytes.", "content": content}


def _successes(contract: Contract, operation: Operation) -> Json:
    schema = {
        Operation.CREATE_USER: "User",
        Operation.GET_USER: "User",
        Operation.LIST_USERS: "ListUsersResponse",
        Operation.GET_BALANCE: "GetBalanceResponse",
        Operation.CREATE_TRANSACTION: "CreateTransactionResponse",
        Operation.LIST_TRANSACTIONS: "ListTransactionsResponse",
    }[operation]
    answer: Json = {"description": "Done", "headers": _header_refs(*_ALWAYS, *_cors(contract))}
    if operation is Operation.CREATE_TRANSACTION and contract.created_transaction == "empty":
        return {"204": answer}
    answer["content"] = {"application/json": {"schema": _ref(schema)}}
    return {str(status): answer for status in sorted(_success_statuses(contract, operation))}


def _success_statuses(contract: Contract, operation: Operation) -> set[int]:
    if operation is Operation.CREATE_USER:
        return {contract.created_user_status, contract.existing_user_status}
    return {contract.created_transaction_status if operation is Operation.CREATE_TRANSACTION else 200}


def _refusals(contract: Contract, operation: Operation) -> Json:
    by_status: dict[int, list[str]] = {}
    for code, error in ERRORS.items():
        if operation in _ONLY_FOR.get(code, (operation,)) and (
            code != "application_not_found" or contract.applications is not None
        ):
            by_status.setdefault(contract.status_of(error), []).append(code)
    return {str(status): _refusal(contract, status, codes) for status, codes in sorted(by_status.items())}


def _refusal(contract: Contract, status: int, codes: Collection[str]) -> Json:
    names = [*_ALWAYS, "X-Fake-Credits-Cause", *_cors(contract)]
    names += ["WWW-Authenticate"] if status == http.HTTPStatus.UNAUTHORIZED else []
    names += ["Allow"] if "method_not_allowed" in codes else []
    names += ["Retry-After"] if "rate_limited" in codes and contract.retry_after != "absent" else []
    code: Json = {"properties": {"code": {"enum": list(codes)}}}
    narrowed: Json = {"properties": {"error": code}} if contract.error_body == "nested" else code
    media_type = "application/problem+json" if contract.error_body == "problem" else "application/json"
    return {
        "description": f"{reason_phrase(status) or 'Refused'}: {', '.join(codes)}",
        "headers": _header_refs(*names),
        "content": {media_type: {"schema": {"allOf": [_ref("ApiError"), narrowed]}}},
    }


# ------------------------------------------------------------ components


def _schemas(contract: Contract) -> Json:
    name = contract.name_of
    created_at: Json = {"type": "integer"}
    if contract.created_at in ("iso_ms", "iso_s"):
        created_at = {"type": "string", "format": "date-time"}
    delta: Json = {"type": "integer", "minimum": -MAX_AMOUNT, "maximum": MAX_AMOUNT, "not": {"const": 0}}
    order: Json = {name("delta"): delta, name("reason"): _ref("CreditTransactionReason")}
    transaction = _object({**order, name("createdAt"): created_at})
    user = {
        name("applicationId"): {"type": "string"},
        name("userId"): {"type": "string"},
        name("createdAt"): created_at,
    }
    return {
        "CreditTransactionReason": {"type": "string", "enum": [reason.value for reason in Reason]},
        "CreateTransactionRequest": {**_object(order), "additionalProperties": False},
        "CreateTransactionResponse": _created(contract, {**order, name("createdAt"): created_at}),
        "Transaction": transaction,
        "User": _object(user),
        "GetBalanceResponse": _object({name("balance"): _balance(contract)}),
        "ListUsersResponse": _page(contract, "users", "User"),
        "ListTransactionsResponse": _page(contract, "transactions", "Transaction"),
        "ApiError": _error(contract),
    }


def _created(contract: Contract, members: Json) -> Json:
    if contract.created_transaction == "wrapped":
        return _object({contract.name_of("transaction"): _object(members)})
    if contract.created_transaction == "id":
        return _object({**members, contract.name_of("id"): {"type": "string"}})
    if contract.created_transaction == "balance":
        return _object({**members, contract.name_of("balance"): _balance(contract)})
    return _object(members)


def _balance(contract: Contract) -> Json:
    balance: Json = {"type": "integer"}
    if contract.floor is not None:
        balance["minimum"] = contract.floor
    return balance if contract.ceiling is None else {**balance, "maximum": contract.ceiling}


def _page(contract: Contract, member: str, item: str) -> Json:
    cursor: Json = {"type": ["string", "null"] if contract.end_of_list == "null" else "string"}
    items: Json = {contract.name_of(member): {"type": "array", "items": _ref(item)}}
    optional = () if contract.end_of_list == "absent" else (contract.name_of("nextCursor"),)
    return _object({**items, contract.name_of("nextCursor"): cursor}, required=(*items, *optional))


def _error(contract: Contract) -> Json:
    text: Json = {"type": "string"}
    members: Json = {"code": text, "message": text}
    if contract.error_body == "flat":
        return _object(members)
    members = {**members, "requestId": text}
    if contract.error_body == "problem":
        members = {"type": text, "title": text, "status": {"type": "integer"}, "detail": text, "code": text}
        members["requestId"] = text
    details: Json = {"type": "array", "items": _object({"field": text, "problem": text})}
    error = _object({**members, "details": details}, required=tuple(members))
    return _object({"error": error}) if contract.error_body == "nested" else error


def _object(members: Json, *, required: tuple[str, ...] | None = None) -> Json:
    return {"type": "object", "properties": members, "required": list(members if required is None else required)}


def _header(name: str, description: str) -> Json:
    return {"description": description, "required": name in _REQUIRED, "schema": {"type": "string"}}


def _cors(contract: Contract) -> tuple[str, ...]:
    if not contract.cors_origins:
        return ()
    return _CORS[:2] if "*" in contract.cors_origins else _CORS


def _header_refs(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _security_schemes(contract: Contract) -> Json:
    key: Json = {"type": "apiKey", "in": "header", "name": contract.api_key.header}
    if contract.api_key.header.lower() == "authorization" and contract.api_key.scheme:
        key = {"type": "http", "scheme": contract.api_key.scheme.lower()}
    token: Json = {"type": "apiKey", "in": "header", "name": contract.user_token.header}
    if contract.user_token.header.lower() == "authorization" and contract.user_token.scheme:
        token = {"type": "http", "scheme": contract.user_token.scheme.lower(), "bearerFormat": "JWT"}
    return {"apiKey": key, "userToken": token}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}
