"""Reports for CI: JUnit XML and Markdown."""

import asyncio
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from fake_credits import FakeCredits
from fake_credits.client.server import ServerClient
from fake_credits.explore.ci_reports import render_junit, render_markdown
from fake_credits.explore.report import exploration_to_json, render_documents, write_report
from tests.explore.applications import FAILED, charge, deltas
from tests.explore.conftest import Explore


def charge_or_look(api: ServerClient) -> None:
    try:
        charge(api)
    except FAILED:
        charge(api)
        deltas(api)


@pytest.fixture(scope="module")
def report(explore: Explore) -> dict[str, Any]:
    def test(credits: FakeCredits) -> None:
        charge_or_look(credits.server_client)
        assert credits.balance("ada") == 90

    exploration = explore(test, {"faults": ["lost_after", "refused", "down"], "depth": 1})
    exploration.notes.append("@someone <b>|x|</b>")
    return {"version": 1, "explorations": [exploration_to_json(exploration)]}


def parse(xml: str) -> Element:
    return fromstring(xml)  # noqa: S314 - it is our own


def with_changes(report: dict[str, Any], **changes: object) -> dict[str, Any]:
    return {**report, "explorations": [{**report["explorations"][0], **changes}]}


def test_junit_has_a_case_for_each_schedule(report: dict[str, Any]) -> None:
    (suite,) = parse(render_junit(report))
    assert suite.attrib["name"].endswith("::test")
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["skipped"]) == ("3", "1", "0")
    failures = {case.attrib["name"]: case.find("failure") for case in suite.iter("testcase")}
    assert set(failures) == {"1:lost_after", "1:refused", "1:down"}
    failure = failures["1:lost_after"]
    assert failure is not None
    assert failure.attrib["message"] == "charged twice"
    assert "ada has 80 credits instead of 90" in str(failure.text)
    assert "Replay: pytest" in str(failure.text)


def test_junit_marks_unexplored_tests_and_unmet_schedules_as_skipped(report: dict[str, Any]) -> None:
    (suite,) = parse(render_junit(with_changes(report, skip_reason="it makes no call")))
    (skipped,) = suite.iter("skipped")
    assert (skipped.attrib["message"], suite.attrib["tests"]) == ("it makes no call", "1")
    schedule = {**report["explorations"][0]["schedules"][0], "verdict": "not met", "colour": "grey"}
    (suite,) = parse(render_junit(with_changes(report, schedules=[schedule])))
    assert suite.attrib["skipped"] == "1"


def test_junit_contains_the_notes(report: dict[str, Any]) -> None:
    (suite,) = parse(render_junit(with_changes(report, notes=["first", "second"])))
    assert [output.text for output in suite.iter("system-out")] == ["first; second"]


def test_junit_is_valid_xml_whatever_a_name_contains(report: dict[str, Any]) -> None:
    (suite,) = parse(render_junit(with_changes(report, test='sh -c "\x1b[2J\n<&>"')))
    assert suite.attrib["name"] == 'sh -c "\\x1b[2J\\n<&>"'


def test_markdown_has_the_matrix_and_the_findings(report: dict[str, Any]) -> None:
    lines = render_markdown(report).splitlines()
    assert lines[0].startswith("### 🔴 fake-credits: `test_app.py::test`")
    assert "| | refused | lost after | down from here |" in lines
    assert "| `1 createTransaction ada -10` | ok | 🔴 **charged twice** | raised |" in lines
    finding = next(line for line in lines if line.startswith("**🔴 Charged twice (1, lost after)**: "))
    assert "ada has 80 credits instead of 90" in finding
    assert any(line.startswith("pytest ") for line in lines)


def test_markdown_escapes_markup_and_mentions(report: dict[str, Any]) -> None:
    text = render_markdown(with_changes(report, test="a`b @c"))
    assert "`a'b @c`" in text
    assert "- Note: @\N{ZERO WIDTH SPACE}someone \\<b\\>\\|x\\|\\</b\\>" in text


def test_markdown_is_green_or_amber_or_says_why_nothing_was_explored(report: dict[str, Any]) -> None:
    amber = {**report["explorations"][0]["findings"][0], "colour": "amber"}
    changes: list[dict[str, object]] = [{"findings": []}, {"findings": [amber]}, {"leaks": True}]
    headings = [render_markdown(with_changes(report, **each)).splitlines()[0] for each in changes]
    assert [heading.partition("fake-credits")[0] for heading in headings] == ["### 🟢 ", "### 🟠 ", "### "]
    assert "Not explored: state leaks between runs" in render_markdown(with_changes(report, leaks=True))


def test_markdown_fits_in_a_comment(report: dict[str, Any]) -> None:
    exploration = report["explorations"][0]
    calls = [{"number": number, "call": str(number), "label": "getBalance ada"} for number in range(500)]
    text = render_markdown(with_changes(report, calls=calls, findings=exploration["findings"] * 200))
    assert len(text) < 65_536
    assert "460 more calls." in text
    assert "180 more findings." in text


def test_file_extension_determines_the_format(report: dict[str, Any], tmp_path: Path) -> None:
    starts = {
        "r.xml": "<?xml",
        "r.md": "### ",
        "r.html": "<!DOCTYPE html>",
        "r.HTM": "<!DOCTYPE",
        "r.json": "{",
        "r": "{",
    }
    for name, start in starts.items():
        write_report(str(tmp_path / name), report["explorations"])
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    assert render_documents("junit", []).endswith('<testsuites name="fake-credits" />\n')


def test_orders_are_in_every_report(explore: Explore, tmp_path: Path) -> None:
    def test(credits: FakeCredits) -> None:
        async def spend_twice() -> None:
            api = credits.async_server_client
            await asyncio.gather(
                *(api.create_transaction("app-id", "ada", delta=delta, reason="consume") for delta in (-1, -2))
            )

        asyncio.run(spend_twice())
        assert credits.transactions("ada")[-1].delta == -2

    documents = [exploration_to_json(explore(test, {"faults": [], "orders": True}))]
    document = {"version": 1, "explorations": documents}
    (suite,) = parse(render_junit(document))
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("2", "1")
    failure = suite.find("testcase[@name='order 2']/failure")
    assert failure is not None
    assert "def test_in_failing_order(" in str(failure.text)
    assert "def test_in_failing_order(" in render_markdown(document)
    write_report(str(tmp_path / "report.html"), documents)
    page = (tmp_path / "report.html").read_text()
    assert "<pre>from concurrent.futures" in page
    assert "<th>order 2</th>" in page
