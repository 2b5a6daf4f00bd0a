"""The text of README.md and the pages in docs."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
"""The text of each page, keyed by path."""

TEXT = "\n\n".join(PAGES.values())
