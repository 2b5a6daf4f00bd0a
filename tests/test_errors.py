"""Test that every exception of the package survives pickling, as multiprocessing and pytest-xdist require."""

import copy
import importlib
import multiprocessing
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import fake_credits
from fake_credits.errors import ERRORS, ControlError, InvalidResponse, MethodNotAllowed, Problem
from fake_credits.fake import FakeCredits

SPECIAL_ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "InvalidResponse": (("no JSON",), {"status": 502, "request_id": "req_1", "retry_after_s": 3}),
    "ControlError": (("conflict", "in use"), {"details": (Problem("api_key", "is in use"),)}),
    "ContractError": (("routes", "are missing"), {}),
    "OptionError": (("clock is wrong", "clock", "a time"), {}),
    "PredicateError": (("reset#1", ValueError("it failed")), {}),
}


def exception_types() -> Iterator[type[BaseException]]:
    for module in pkgutil.walk_packages(fake_credits.__path__, "fake_credits."):
        if module.name != "fake_credits.__main__":
            importlib.import_module(module.name)
    ahead: list[type[BaseException]] = [BaseException]
    while ahead:
        error_type = ahead.pop()
        ahead += error_type.__subclasses__()
        if error_type.__module__.startswith("fake_credits.") and error_type not in ahead:
            yield error_type


ERROR_TYPES = sorted(set(exception_types()), key=lambda each: each.__name__)


@pytest.mark.parametrize("error_type", ERROR_TYPES, ids=lambda each: each.__name__)
def test_error_survives_pickling_and_copying(error_type: type[BaseException]) -> None:
    args, kwargs = SPECIAL_ARGUMENTS.get(error_type.__name__, (("it failed",), {}))
    error: Any = error_type(*args, **kwargs)
    error.add_note("seen in a worker")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        restored = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
        assert (type(restored), str(restored), vars(restored)) == (error_type, str(error), vars(error))
    assert str(copy.copy(error)) == str(error)


def test_api_and_control_errors_are_among_those_tested() -> None:
    assert {InvalidResponse, ControlError, MethodNotAllowed, *ERRORS.values()} <= set(ERROR_TYPES)


def raise_errors(number: int) -> None:
    raise InvalidResponse(f"no JSON in response {number}", status=502, request_id="req_1")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_error_in_a_process_pool_reaches_the_caller() -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool, pytest.raises(InvalidResponse, match="response 3") as got:
        pool.map(raise_errors, [3])
    assert (got.value.status, got.value.request_id) == (502, "req_1")


def test_pickled_api_error_keeps_its_code_and_request_id() -> None:
    with FakeCredits() as fake, pytest.raises(fake_credits.ApiError) as caught:
        fake.server_client.get_balance("app-id", "nobody")
    restored = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (restored.code, restored.status, restored.request_id) == ("user_not_found", 404, caught.value.request_id)
