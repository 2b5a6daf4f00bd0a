"""Draw the picture in README.md: pytest's report of exploring a test, as an SVG.

    python scripts/picture.py           run the test and rewrite the picture
    python scripts/picture.py --check   exit 1 if the picture differs from the report

Each run of text has a fixed place and length, so the columns are aligned in any monospace font.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "tests" / "examples" / "picture"
PICTURE = ROOT / "docs" / "images" / "double-charge.svg"

EXPLORE = "--fake-credits-explore"
COLUMNS = 118
MAX_LINES = 60
CHAR_PX, LINE_PX, MARGIN_PX, BAR_PX = 8, 19, 18, 34
# The picture has its own background, so it is readable on a light page and on a dark one.
BACKGROUND, BAR, FOREGROUND = "#161b22", "#21262d", "#e6edf3"
PALETTE = ("#8b949e", "#ff7b72", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#e6edf3")
COLOURS = {base + number: colour for base in (30, 90) for number, colour in enumerate(PALETTE)}
STYLE_CODE = re.compile(r"\x1b\[([\d;]*)m")


class Character(NamedTuple):
    """A terminal character with its style."""

    text: str
    colour: str
    bold: bool


def report() -> list[str]:
    """Run the test; return the lines of its report, with the terminal's colour codes."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(EXAMPLE / "shop.py", folder)
        shutil.copy(EXAMPLE / "checkout.py", Path(folder) / "test_checkout.py")
        options = ["--color=yes", "--code-highlight=no", "-p", "no:cacheprovider", "-p", "pytest_fake_credits", EXPLORE]
        result = subprocess.run(
            [sys.executable, "-m", "pytest", *options, "test_checkout.py"],
            cwd=folder,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "COLUMNS": str(COLUMNS)},
            capture_output=True,
            text=True,
            check=False,
        )
    lines = result.stdout.splitlines()
    starts = [number for number, line in enumerate(lines) if "test_course_costs_ten_credits ___" in line]
    ends = [number for number, line in enumerate(lines) if "short test summary info" in line]
    if result.returncode != 1 or not starts or not ends:
        raise SystemExit(f"{EXAMPLE.relative_to(ROOT)} should fail in one test:\n{result.stdout}{result.stderr}")
    return [f"$ pytest {EXPLORE}", *lines[starts[0] : ends[0]], lines[ends[0] + 1]]


def characters(line: str) -> Iterator[Character]:
    """Yield the characters of a line, each with the style set by the line's colour codes."""
    colour, bold, position = FOREGROUND, False, 0
    for match in [*STYLE_CODE.finditer(line), None]:
        yield from (Character(text, colour, bold) for text in line[position : match.start() if match else None])
        if match is None:
            return
        position = match.end()
        for code in map(int, (match[1] or "0").split(";")):
            if code == 0:
                colour, bold = FOREGROUND, False
            elif code in (1, 22):
                bold = code == 1
            else:
                colour = FOREGROUND if code == 39 else COLOURS.get(code, colour)


def rows(lines: list[str]) -> list[list[Character]]:
    """Return the terminal rows that the lines occupy; long lines are wrapped."""
    found: list[list[Character]] = []
    for line in lines:
        cells = list(characters(line))
        found += [cells[start : start + COLUMNS] for start in range(0, max(len(cells), 1), COLUMNS)]
    if len(found) > MAX_LINES:
        raise SystemExit(f"the report has {len(found)} rows, more than the {MAX_LINES} of a readable picture")
    return found


def runs(row: list[Character]) -> Iterator[tuple[int, Character]]:
    """Yield the text runs of a row, each with its column; a change of style or two spaces end a run."""
    text = "".join(cell.text for cell in row)
    start = 0
    for column in range(1, len(row) + 1):
        is_end = column == len(row) or row[column][1:] != row[start][1:]
        if is_end or (text[column] != " " and text[column - 2 : column] == "  "):
            run = text[start:column]
            if words := run.strip():
                yield start + len(run) - len(run.lstrip()), row[start]._replace(text=words)
            start = column


def svg(lines: list[str]) -> str:
    """Return an SVG picture of a terminal that shows the given lines."""
    shown = rows(lines)
    width = 2 * MARGIN_PX + COLUMNS * CHAR_PX
    height = BAR_PX + 2 * MARGIN_PX + len(shown) * LINE_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" '
        f'font-size="13" fill="{FOREGROUND}">',
        "<title>pytest reports a double charge, and which call was charged twice</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>',
        f'<path d="M0 {BAR_PX}V8a8 8 0 0 1 8-8H{width - 8}a8 8 0 0 1 8 8V{BAR_PX}z" fill="{BAR}"/>',
        *(
            f'<circle cx="{20 + 20 * number}" cy="{BAR_PX // 2}" r="6" fill="{colour}"/>'
            for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
        ),
    ]
    for number, row in enumerate(shown):
        y = BAR_PX + MARGIN_PX + number * LINE_PX + 13
        for column, (words, colour, bold) in runs(row):
            style = (f' fill="{colour}"' if colour != FOREGROUND else "") + (' font-weight="bold"' if bold else "")
            place = f'x="{MARGIN_PX + column * CHAR_PX}" y="{y}" textLength="{len(words) * CHAR_PX}"'
            parts.append(f'<text {place} xml:space="preserve"{style}>{escape(words, quote=False)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    """Rewrite or check the picture."""
    wanted = svg(report())
    name = PICTURE.relative_to(ROOT)
    if PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{name} differs from the test's report: run python scripts/picture.py, and commit the result")
        return 1
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(wanted, encoding="utf-8")
    print(f"{name} rewritten")
    return 0


if __name__ == "__main__":
    sys.exit(main())
