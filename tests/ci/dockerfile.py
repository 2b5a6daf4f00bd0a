"""Parse a Dockerfile and run its steps in plain folders, without a container engine.

A stage is a folder with a fresh virtual environment in place of its base image; absolute paths in COPY and WORKDIR are
resolved inside that folder, so RUN lines may only use relative paths.
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
    """A Dockerfile instruction: its name, its flags and the rest of the line."""

    name: str
    flags: Mapping[str, str]
    rest: str


def parse_dockerfile(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    parsed: list[Instruction] = []
    for line in filter(str.strip, lines):
        name, _, rest = line.partition(" ")
        parts = rest.split(" ")
        flags = [word for word in parts if word.startswith("--")][: _count_leading_flags(parts)]
        pairs = (flag.removeprefix("--").partition("=") for flag in flags)
        parsed.append(Instruction(name, {key: value for key, _, value in pairs}, " ".join(parts[len(flags) :]).strip()))
    return parsed


def _count_leading_flags(parts: list[str]) -> int:
    return next((index for index, word in enumerate(parts) if not word.startswith("--")), len(parts))


@dataclass
class Stage:
    """A build stage: its folder, working directory and recorded instructions."""

    root: Path
    workdir: PurePosixPath = field(default_factory=lambda: PurePosixPath("/"))
    instructions: dict[str, Instruction] = field(default_factory=dict[str, Instruction])

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the stage's processes, with its own programs first on PATH."""
        variables = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "FAKE_CREDITS"))}
        return {**variables, "PATH": f"{self.root / 'image' / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    @property
    def entrypoint(self) -> list[str]:
        """Return the arguments of ENTRYPOINT."""
        return [str(word) for word in json.loads(self.instructions["ENTRYPOINT"].rest)]

    @property
    def health(self) -> str:
        """Return the shell command of HEALTHCHECK."""
        return self.instructions["HEALTHCHECK"].rest.removeprefix("CMD ")

    def resolve(self, path: str) -> Path:
        """Return the local path for a path in the image."""
        return self.root / str(self.workdir / path).lstrip("/")


class DockerfileBuild:
    """A build that runs the instructions of a Dockerfile in folders below ``output``."""

    def __init__(self, context: Path, output: Path) -> None:
        self._context = context
        self._output = output
        self._stages: dict[str, Stage] = {}
        self._ignored = (context / ".dockerignore").read_text().split()
        self._handlers: dict[str, Callable[[Stage, Instruction], None]] = {
            "WORKDIR": self._workdir,
            "COPY": self._copy,
            "RUN": self._run,
            **dict.fromkeys(("USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"), self._record),
        }

    def run(self, steps: list[Instruction]) -> Stage:
        """Run all steps and return the last stage; raise KeyError for an unknown instruction."""
        stage = Stage(self._output)
        for step in steps:
            if step.name == "FROM":
                stage = self._begin(step)
            else:
                self._handlers[step.name](stage, step)
        return stage

    def _begin(self, step: Instruction) -> Stage:
        _, _, name = step.rest.partition(" AS ")
        stage = self._stages[name] = Stage(self._output / f"stage-{len(self._stages)}")
        venv.create(stage.root / "image", with_pip=True)
        return stage

    def _record(self, stage: Stage, step: Instruction) -> None:
        stage.instructions[step.name] = step

    def _workdir(self, stage: Stage, step: Instruction) -> None:
        stage.workdir /= step.rest
        stage.resolve(".").mkdir(parents=True, exist_ok=True)

    def _copy(self, stage: Stage, step: Instruction) -> None:
        source, target = step.rest.split()
        origin = self._stages[step.flags["from"]].root / source.lstrip("/") if step.flags else self._context / source
        shutil.copytree(
            origin, stage.resolve(target), dirs_exist_ok=True, ignore=shutil.ignore_patterns(*self._ignored)
        )

    def _run(self, stage: Stage, step: Instruction) -> None:
        result = subprocess.run(
            ["/bin/sh", "-c", step.rest],
            cwd=stage.resolve("."),
            env=stage.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert result.returncode == 0, f"RUN {step.rest}\n{result.stdout}"
