"""Own the reading of a Dockerfile and the running of its steps in plain folders; know no container engine.

A stage is a folder with a fresh virtual environment in place of its base image; absolute paths of COPY and WORKDIR are
below that folder, so RUN lines may use relative paths only.
"""

import json
import os
import re
import shutil
import subprocess
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Instruction:
    """Be one instruction: its name, its flags, and the rest of its line."""

    name: str
    flags: Mapping[str, str]
    rest: str


def instructions(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    found: list[Instruction] = []
    for line in filter(str.strip, lines):
        name, _, rest = line.partition(" ")
        words = rest.split(" ")
        flags = [word for word in words if word.startswith("--")][: _leading(words)]
        pairs = (flag.removeprefix("--").partition("=") for flag in flags)
        found.append(Instruction(name, {key: value for key, _, value in pairs}, " ".join(words[len(flags) :]).strip()))
    return found


def _leading(words: list[str]) -> int:
    return next((at for at, word in enumerate(words) if not word.startswith("--")), len(words))


@dataclass
class Stage:
    """Be one stage: its folder, and what the instructions so far say of it."""

    root: Path
    workdir: PurePosixPath = field(default_factory=lambda: PurePosixPath("/"))
    said: dict[str, Instruction] = field(default_factory=dict[str, Instruction])

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of its processes: those of a fresh shell, with its own programs first."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "FAKE_CREDITS"))}
        return {**kept, "PATH": f"{self.root / 'image' / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    @property
    def entrypoint(self) -> list[str]:
        """Return the words of its ENTRYPOINT."""
        return [str(word) for word in json.loads(self.said["ENTRYPOINT"].rest)]

    @property
    def health(self) -> str:
        """Return the shell's line of its HEALTHCHECK."""
        return self.said["HEALTHCHECK"].rest.removeprefix("CMD ")

    def at(self, path: str) -> Path:
        """Return where a path of the image is."""
        return self.root / str(self.workdir / path).lstrip("/")


class Build:
    """Run the instructions of a Dockerfile in folders below ``into``."""

    def __init__(self, context: Path, into: Path) -> None:
        self._context = context
        self._into = into
        self._stages: dict[str, Stage] = {}
        self._ignored = (context / ".dockerignore").read_text().split()
        self._does: dict[str, Callable[[Stage, Instruction], None]] = {
            "WORKDIR": self._workdir,
            "COPY": self._copy,
            "RUN": self._run,
            **dict.fromkeys(("USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"), self._note),
        }

    def run(self, steps: list[Instruction]) -> Stage:
        """Run all and return the last stage; an instruction that is unknown here is a KeyError."""
        stage = Stage(self._into)
        for step in steps:
            if step.name == "FROM":
                stage = self._begin(step)
            else:
                self._does[step.name](stage, step)
        return stage

    def _begin(self, step: Instruction) -> Stage:
        _, _, name = step.rest.partition(" AS ")
        stage = self._stages[name] = Stage(self._into / f"stage-{len(self._stages)}")
        venv.create(stage.root / "image", with_pip=True)
        return stage

    def _note(self, stage: Stage, step: Instruction) -> None:
        stage.said[step.name] = step

    def _workdir(self, stage: Stage, step: Instruction) -> None:
        stage.workdir /= step.rest
        stage.at(".").mkdir(parents=True, exist_ok=True)

    def _copy(self, stage: Stage, step: Instruction) -> None:
        source, target = step.rest.split()
        origin = self._stages[step.flags["from"]].root / source.lstrip("/") if step.flags else self._context / source
        shutil.copytree(origin, stage.at(target), dirs_exist_ok=True, ignore=shutil.ignore_patterns(*self._ignored))

    def _run(self, stage: Stage, step: Instruction) -> None:
        done = subprocess.run(
            ["/bin/sh", "-c", step.rest],
            cwd=stage.at("."),
            env=stage.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, f"RUN {step.rest}\n{done.stdout}"
