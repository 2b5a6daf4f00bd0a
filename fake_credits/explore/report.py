"""The report of one exploration as text: a matrix of calls and faults, and the findings."""

from collections import Counter
from collections.abc import Iterable, Sequence
from textwrap import wrap

from fake_credits.call_patterns import pluralize
from fake_credits.explore.exploration import Exploration, JudgedRun
from fake_credits.explore.findings import Finding, find_findings
from fake_credits.explore.judge import Colour, Judgement
from fake_credits.explore.schedules import FAULTS, CallFault, CallKey
from fake_credits.text import truncate

_FINE = (Colour.GREEN, Colour.NOTE)
_FINE_LABEL = "fine"
_MAX_ROWS = 40
_NOT_APPLICABLE = "\N{EN DASH}"
_NOT_TRIED = "…"
_WIDTH = 110


def summarize(results: Iterable[JudgedRun]) -> str:
    """Return how many schedules were run, and how many had which verdict."""
    counts = count_verdicts(results)
    total, fine = counts.total(), counts.pop(_FINE_LABEL, 0)
    parts = [f"{fine} {_FINE_LABEL}"] if fine or not counts else []
    parts += [f"{count} {verdict}" for verdict, count in counts.most_common()]
    return f"{pluralize(total, 'schedule')}: {', '.join(parts)}"


def count_verdicts(results: Iterable[JudgedRun]) -> Counter[str]:
    """Return the number of schedules by verdict; green ones and notes count as fine."""
    judgements = (judged.judgement for judged in results)
    return Counter(_FINE_LABEL if each.colour in _FINE else each.verdict.value for each in judgements)


def render_report(exploration: Exploration) -> str:
    """Return the report: the totals, the matrix, each finding, and what was not tried."""
    lines = [f"fake-credits: {summarize(exploration.results)}", "", *_matrix(exploration), ""]
    for finding in find_findings(exploration):
        lines += [*_finding_lines(finding), ""]
    lines += [f"Not tried: {count} ({reason})" for reason, count in exploration.untried.items()]
    return "\n".join(lines).rstrip()


def _finding_lines(finding: Finding) -> list[str]:
    return [
        *wrap(f"{finding.heading}: {finding.text}", _WIDTH),
        f"Replay:    {finding.replay}",
        f"As a test: {finding.marker}",
    ]


def _matrix(exploration: Exploration) -> list[str]:
    cells: dict[tuple[CallKey | int, str], Judgement] = {}
    faults: dict[str, CallFault] = {}
    for judged in exploration.results:
        if len(judged.run.schedule) == 1:
            key, fault = judged.run.schedule[0]
            cells[key, fault.name] = judged.judgement
            faults[fault.name] = fault
    if not cells:
        return []
    columns = sorted(faults.values(), key=_column_rank)
    rows = [("", *(fault.label or fault.name for fault in columns))]
    calls = exploration.reference.application_calls
    for call in calls[:_MAX_ROWS]:
        label = f"{call.number} {truncate(call.key.label)}"
        rows.append((label, *(_cell(cells, call.key, fault) for fault in columns)))
    lines = _align(rows, [index for index, fault in enumerate(columns) if fault.lasts])
    return lines + ([f"… {len(calls) - _MAX_ROWS} more calls"] if len(calls) > _MAX_ROWS else [])


def _column_rank(fault: CallFault) -> tuple[int, str]:
    names = list(FAULTS)
    return (names.index(fault.name) if fault.name in FAULTS else len(names), fault.name)


def _cell(cells: dict[tuple[CallKey | int, str], Judgement], key: CallKey, fault: CallFault) -> str:
    judgement = cells.get((key, fault.name))
    if judgement is None:
        only_once = fault.name in ("silent", "silent_after")
        return _NOT_APPLICABLE if only_once or not fault.applies_to(key.operation) else _NOT_TRIED
    text = judgement.verdict.value
    return text.upper() if judgement.colour is Colour.RED else text


def _align(rows: Sequence[Sequence[str]], lasting: Sequence[int]) -> list[str]:
    """Return the lines of a table with a rule before the first column, and one before the faults that last."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = f"{cells[0]} │ "
        for index, cell in enumerate(cells[1:]):
            line += (" │ " if index in lasting and index else "  " if index else "") + cell
        lines.append(line.rstrip())
    return lines
