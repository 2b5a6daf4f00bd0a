"""Command that runs the benchmarks and prints a table of results.

    python -m tests.benchmarks [--quick] [--json] [NAME …]

It asserts nothing about time, and exits with status 1 only if a benchmark fails with an error.
"""

# ruff: noqa: RUF001 - the table has dashes and multiplication signs

import argparse
import json
import sys
from collections.abc import Mapping

from tests.benchmarks import before, explore, faults, intercepted, live, local, suites, worlds
from tests.benchmarks.plan import FULL, QUICK, Benchmark, BenchmarkSkipped, Measurement, Plan, describe_run

RAW = "the raw app on uvicorn + uvloop + httptools"
MOCK = "httpx2 `MockTransport`"
BEFORE = f"the same at commit {before.COMMIT}"

BENCHMARKS: Mapping[str, Benchmark] = {
    "get-key": Benchmark("live GET balance, API key", RAW, "≤ 1.25× CPU", live.get_with_api_key),
    "get-token": Benchmark("live GET balance, user's RS256 token", RAW, "≤ 1.35× CPU", live.get_with_token),
    "post": Benchmark(
        "live POST transaction", RAW, "≤ 1.65× CPU; within 30 % at 10 and at 1,000,000 transactions", live.post
    ),
    "live-before-key": Benchmark("live GET balance, API key", BEFORE, "≤ 0.70× CPU", before.get_with_key),
    "live-before-token": Benchmark(
        "live GET balance, user's RS256 token", BEFORE, "≤ 0.70× CPU", before.get_with_token
    ),
    "live-before-post": Benchmark("live POST transaction", BEFORE, "≤ 0.75× CPU", before.post),
    "client": Benchmark("in-process `ServerClient.get_balance`", MOCK, "≤ 0.12×", local.client_call),
    "transport": Benchmark("a call through our httpx2 transport", MOCK, "≤ 1.5×", local.transport_call),
    "intercept-requests": Benchmark(
        "an intercepted call of requests",
        "the same to the live server on loopback",
        "≤ 0.5×",
        intercepted.intercepted_requests,
    ),
    "intercept-httpx2": Benchmark("an intercepted call of httpx2", MOCK, "≤ 1.3×", intercepted.intercepted_httpx2),
    "intercept-others": Benchmark(
        "what interception adds to a call to another URL, on loopback", "none", "not measurable", intercepted.other_urls
    ),
    "fixture": Benchmark(
        "fresh sandbox + one call in a test", "the same test without the fixture", "≤ 0.15 ms more", suites.fixture
    ),
    "sandbox": Benchmark("creating a sandbox", "–", "≤ 8 µs", local.sandbox),
    "serve": Benchmark("`serve`, spawn to first answer", "the raw app under uvicorn", "≤ 1.5×", live.start),
    "pytest": Benchmark("pytest start, plugin installed, unused", "without", "≤ 4 ms more", suites.start),
    "growth": Benchmark(
        "in-process append, and one user's page of 20, at 1,000,000 transactions",
        "at 1,000",
        "≤ 1.1×, ≤ 1.2×",
        local.growth,
    ),
    "memory": Benchmark(
        "memory of 1,000,000 transactions; longest garbage-collection stop with them",
        "–",
        "≤ 60 bytes each; ≤ 5 ms",
        local.memory,
    ),
    "journal": Benchmark("memory after 100,000 GETs", "after 20,000", "≤ 2 MB more", live.memory_after_gets),
    "rules": Benchmark(
        "what faults add to an exchange in process: with no rule; with ten that don't match",
        "the same without their steps",
        "≤ 0.7 µs; ≤ 3 µs",
        faults.rules,
    ),
    "explore": Benchmark("100 schedules of an explored test with five calls", "–", "≤ 0.5 s", explore.schedules),
    "explore-off": Benchmark(
        "what exploration adds to a test while it is off", "the same without its plugin", "not measurable", explore.off
    ),
    "explore-node": Benchmark(
        "a run of a Node script under `fake-credits explore`", "the bare process", "≤ 30 ms more", explore.node
    ),
    "explore-orders": Benchmark("an explored order of three tasks in process", "–", "≤ 3 ms", explore.orders),
    "explore-memory": Benchmark(
        "memory of exploration after 10,000 schedules", "after 1,000", "≤ 2 MB more", explore.memory
    ),
    "timeouts": Benchmark(
        "a timeout of 30 s with a retry; five attempts with Retry-After 30", "–", "≤ 5 ms; ≤ 10 ms", faults.timeouts
    ),
    "delays": Benchmark(
        "what a delay of 20 ms over a socket adds, at 1,000 requests a second over 64 connections: median; p99",
        "no delay",
        "≤ 1.2 ms; ≤ 3 ms; never early",
        faults.delays,
    ),
    "demo": Benchmark("the world `demo` into a sandbox, Faker's import included", "–", "≤ 0.5 s", worlds.demo),
    "load": Benchmark(
        "the world `load` into a sandbox (5,000,000 transactions)",
        "–",
        "≥ 200,000 transactions a second; ≤ 60 bytes each",
        worlds.load,
    ),
    "seed": Benchmark(
        "`seed` into a live server",
        "a loop of `AsyncServerClient` calls, 8 at once",
        "≥ 80 % of its rate",
        worlds.over_http,
    ),
    "naive": Benchmark("naive fake (Starlette, PyJWT), live GET balance, RS256 token", RAW, "–", live.naive_fake),
}


def main() -> int:
    """Run the named benchmarks, or all of them, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--quick", action="store_true", help="a smoke run, whose numbers mean little")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    plan, is_table = QUICK if arguments.quick else FULL, not arguments.json
    if is_table:
        _print("| what | compared with | goal | measured |\n|---|---|---|---|")
    results: dict[str, Measurement | str] = {}
    for name in arguments.names or BENCHMARKS:
        benchmark, result = BENCHMARKS[name], _run(BENCHMARKS[name], plan)
        results[name] = result
        if is_table:
            text = result if isinstance(result, str) else result.text
            _print(f"| {benchmark.subject} | {benchmark.reference} | {benchmark.target} | {text} |")
    run = describe_run(" ".join(["python -m tests.benchmarks", *sys.argv[1:]]), plan)
    _print("\n" + run if is_table else json.dumps({"run": run, "rows": [_to_json(*row) for row in results.items()]}))
    return int(any(isinstance(result, str) and result.startswith("error") for result in results.values()))


def _run(benchmark: Benchmark, plan: Plan) -> Measurement | str:
    """Return the figures of a benchmark, or why there are none."""
    try:
        return benchmark.measure(plan)
    except BenchmarkSkipped as skipped:
        return f"skipped: {skipped}"
    except Exception as error:  # noqa: BLE001 - the other rows are still worth having
        sys.stderr.write(f"{benchmark.subject}: {error!r}\n")
        return f"error: {type(error).__name__}"


def _to_json(name: str, result: Measurement | str) -> dict[str, object]:
    benchmark = BENCHMARKS[name]
    row = {"name": name, "what": benchmark.subject, "against": benchmark.reference, "goal": benchmark.target}
    problem, figures = (result, {}) if isinstance(result, str) else ("", result.figures)
    return {**row, "problem": problem, "figures": figures}


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
