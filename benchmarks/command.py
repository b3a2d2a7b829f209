"""What all the commands have in common: options, exit codes, and the files they write."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.execute import Failed, Runner, in_own_process, in_this_process, told
from rather.errors import UserError
from rather.training.record import write_json

Measure = Callable[[argparse.Namespace, Runner, Path], dict[str, Any]]
"""(options, runner of jobs, scratch folder) -> what is written; ``failed`` in it is a sentence that makes the command
fail after everything is written."""


def command_line(name: str, arguments: Sequence[str]) -> str:
    """The command as the page shows it; of an absolute path only the name."""
    return shlex.join(["python", "-m", f"benchmarks.{name}", *map(shown, arguments)])


def shown(word: str) -> str:
    """A word of the command line without where things lie on this machine."""
    return Path(word).name if Path(word).is_absolute() else word


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The options that all commands have."""
    found = argparse.ArgumentParser(f"python -m benchmarks.{name}", description=description)
    found.add_argument("--out", type=Path, default=Path("docs"), help="where benchmarks.md and benchmarks/ go")
    found.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    found.add_argument("--seed", type=int, default=42)
    found.add_argument("--note", default="", help="a sentence for the page about how these numbers were made")
    found.add_argument("--in-process", action="store_true", help="quick trial: no honest memory figures")
    return found


def main(
    name: str,
    options: argparse.ArgumentParser,
    measure: Measure,
    arguments: Sequence[str] | None = None,
    *,
    file: Callable[[argparse.Namespace], str] | None = None,
) -> int:
    """Run a command: measure, write its JSON, make the page anew.

    Args:
        file: of the JSON, without its ending, where one command has several of them.

    Returns:
        The exit code: 0, 1 for a failed check or contender, 2 for a mistake in the options.
    """
    from benchmarks.page import build

    words = list(sys.argv[1:] if arguments is None else arguments)
    asked = options.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        runner = told(
            in_this_process if asked.in_process else in_own_process(scratch), lambda text: print(text, flush=True)
        )
        try:
            before = describe()
            found = measure(asked, runner, scratch)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except Failed as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    into = asked.out / "benchmarks"
    into.mkdir(parents=True, exist_ok=True)
    head = {
        "command": command_line(name, words),
        "note": asked.note,
        "in_process": asked.in_process,
        "environment": before,
    }
    write_json(into / f"{file(asked) if file else name}.json", {**head, **found})
    print(f"wrote {build(asked.out)}")
    if found.get("failed"):
        print(f"failed: {found['failed']}", file=sys.stderr)
        return 1
    return 0
