"""Jobs one after another, each in a process of its own, so that peak memory is the contender's alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent


class Work(Protocol):
    """What a runner asks of a job (``benchmarks.job.Job`` and its like)."""

    @property
    def contender(self) -> str: ...

    @property
    def form(self) -> str | None: ...

    @property
    def warmup(self) -> int: ...

    def save(self, path: Path) -> Path: ...


Runner = Callable[[Any], dict[str, Any]]
"""Runs one job (``Work``); its result as JSON has it."""


class Failed(RuntimeError):
    """A contender's process ended with an error."""


def in_own_process(scratch: Path) -> Runner:
    """A runner that starts ``benchmarks.worker`` for each job."""

    def run(job: Work) -> dict[str, Any]:
        asked, found = job.save(scratch / "job.json"), scratch / "result.json"
        found.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.worker", str(asked), str(found)]
        environment = {**os.environ, "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not found.is_file():
            tail = "\n".join((done.stderr or done.stdout).splitlines()[-15:])
            killed = "; killed, perhaps for want of memory (see --peer-batch, --max-length)"
            why = killed if done.returncode == -signal.SIGKILL else ""
            raise Failed(f"{job.contender} ended with code {done.returncode}{why}\n{tail}")
        return json.loads(found.read_text())

    return run


def in_this_process(job: Any) -> dict[str, Any]:
    """A runner without start-up cost: for trying things out; its memory figures mean nothing."""
    from accelerate.state import AcceleratorState, GradientState

    from benchmarks.worker import run

    try:
        return json.loads(json.dumps(run(job).plain()))
    finally:
        # The next contender may want another precision, which a process normally decides once.
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def told(runner: Runner, say: Callable[[str], None]) -> Runner:
    """The runner, with one line about each job."""

    def run(job: Work) -> dict[str, Any]:
        start = time.perf_counter()
        found = runner(job)
        steps = found["steps"][job.warmup :]
        wall, cpu = (sum(step[name] for step in steps) / len(steps) for name in ("wall", "cpu"))
        name = job.contender if job.form is None else f"{job.contender}, {job.form}"
        say(
            f"  {name:18} {wall:8.2f} s and {cpu:8.2f} CPU s a step, {found['memory']['above']:7,.0f} MB above "
            f"the loaded model   ({time.perf_counter() - start:.0f} s in all)"
        )
        return found

    return run
