"""Explorations as JSON, the summary of many, and the files that they are written to."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fake_credits.call_patterns import pluralize
from fake_credits.explore.exploration import Exploration, JudgedRun
from fake_credits.explore.findings import find_findings
from fake_credits.explore.html import render_html
from fake_credits.explore.judge import Colour
from fake_credits.explore.report import count_verdicts, summarize
from fake_credits.explore.runs import ObservedCall
from fake_credits.text import escape_control

FORMAT_VERSION = 1
"""The version of the report's format."""

_MAX_LISTED = 10

JsonObject = Mapping[str, Any]


def exploration_to_json(exploration: Exploration, *, with_schedules: bool = True) -> dict[str, Any]:
    """Return an exploration as an object of JSON; without the schedules and their exchanges, it stays small."""
    return {
        "test": exploration.name,
        "skip_reason": exploration.skip_reason,
        "leaks": exploration.leaks,
        "is_red": bool(exploration.red),
        "duration_s": round(exploration.duration_s, 6),
        "summary": summarize(exploration.results),
        "verdicts": dict(count_verdicts(exploration.results)),
        "calls": [
            {"number": call.number, "call": str(call.key), "label": call.key.label}
            for call in exploration.reference.application_calls
        ],
        "schedules": [_schedule_to_json(judged) for judged in exploration.results] if with_schedules else [],
        "findings": [
            {
                "verdict": finding.verdict.value,
                "colour": finding.colour.value,
                "heading": finding.heading,
                "text": finding.text,
                "schedules": [judged.text for judged in finding.runs[:_MAX_LISTED]],
                "replay": finding.replay,
                "marker": finding.marker,
            }
            for finding in find_findings(exploration)
        ],
        "untried": dict(exploration.untried),
        "sleeps": [[seconds, where] for seconds, where in exploration.sleeps],
    }


def _schedule_to_json(judged: JudgedRun) -> dict[str, Any]:
    run, judgement = judged.run, judged.judgement
    return {
        "schedule": judged.text,
        "faults": [{"call": str(call), "fault": fault.name, "label": fault.label} for call, fault in run.schedule],
        "verdict": judgement.verdict.value,
        "colour": judgement.colour.value,
        "detail": escape_control(judgement.detail),
        "outcome": run.outcome.status,
        "error_type": run.outcome.error_type,
        "exchanges": [_call_to_json(call) for call in run.calls],
    }


def _call_to_json(call: ObservedCall) -> dict[str, Any]:
    entry = call.entry
    return {
        "number": call.number,
        "operation": call.operation,
        "user": call.user,
        "delta": call.delta,
        "fault": call.fault,
        "status": entry.status if entry else 0,
        "committed": bool(entry and entry.committed),
        "delivered": bool(entry and entry.delivered),
    }


def summary_lines(documents: Sequence[JsonObject]) -> Iterator[str]:
    """Yield the lines that sum up explorations: totals, amber findings, and what was not explored and why."""
    explored = [document for document in documents if not document["skip_reason"] and not document["leaks"]]
    counts, untried = (_total(explored, name) for name in ("verdicts", "untried"))
    totals = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    counted = f"{pluralize(len(explored), 'test')} explored, {pluralize(counts.total(), 'schedule')}"
    yield f"{counted}: {totals}" if totals else counted
    yield from _amber_findings(explored)
    yield from _not_explored(documents)
    for reason, count in untried.items():
        yield f"not tried: {pluralize(count, 'schedule')} ({reason})"
    sleeps = sorted((tuple(sleep) for document in explored for sleep in document["sleeps"]), reverse=True)
    for seconds, where in sleeps[:_MAX_LISTED]:
        yield f"real sleep of {seconds:g} s at {where}: inject credits.sleep, which takes no time"


def _total(documents: Sequence[JsonObject], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for document in documents:
        total.update(document[name])
    return total


def _amber_findings(documents: Sequence[JsonObject]) -> Iterator[str]:
    lines = [
        f"{document['test']}: {finding['heading']}: --fake-credits-schedule '{finding['schedules'][0]}'"
        for document in documents
        for finding in document["findings"]
        if finding["colour"] == Colour.AMBER.value
    ]
    yield from lines[:_MAX_LISTED]
    if len(lines) > _MAX_LISTED:
        yield f"{len(lines) - _MAX_LISTED} more findings that fail no test"


def _not_explored(documents: Sequence[JsonObject]) -> Iterator[str]:
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for document in documents:
        reason = document["skip_reason"]
        if document["leaks"]:
            reason = "its last run without a fault failed: state leaks between runs, so its findings are void"
        if reason:
            by_reason[reason].append(document["test"])
    for reason, tests in by_reason.items():
        more = f" and {len(tests) - _MAX_LISTED} more" if len(tests) > _MAX_LISTED else ""
        yield f"not explored: {len(tests)} ({reason}): {', '.join(tests[:_MAX_LISTED])}{more}"


def write_report(path: str, documents: Sequence[JsonObject]) -> None:
    """Write explorations to a file: HTML if its name ends in .html or .htm, otherwise JSON."""
    document = {"version": FORMAT_VERSION, "explorations": list(documents)}
    is_html = Path(path).suffix.lower() in (".html", ".htm")
    text = render_html(document) if is_html else json.dumps(document, indent=1) + "\n"
    Path(path).write_text(text, encoding="utf-8")
