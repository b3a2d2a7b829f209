"""Run a study seed by seed; a seed that is finished is kept and not run again."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rather import __version__
from rather.errors import UserError
from rather.report.numbers import number
from rather.studies.base import Judged, Study, StudySettings, Verdict
from rather.studies.results import Results, Rows
from rather.training.display import Display
from rather.training.record import check_writable, read_json, write_json


@dataclass(frozen=True)
class Finished:
    """A study that has been run.

    Attributes:
        seconds: time that the seeds took, those of earlier calls included.
    """

    study: Study
    settings: StudySettings
    results: Results
    judged: Sequence[Judged]
    verdict: Verdict
    seconds: float


def run_study(
    study: Study,
    folder: Path,
    settings: StudySettings,
    *,
    seeds: int | None = None,
    fresh: bool = False,
    show: bool = True,
) -> Finished:
    """Run seeds 0, 1, ... and judge the criteria.

    Each finished seed is written to ``folder/seeds`` at once and reused by a later call with the same settings, the same
    source of the study's file and the same version of the library.

    Args:
        seeds: how many; the study's own number when left out.
        fresh: run every seed again.
        show: a progress bar on standard error.

    Raises:
        UserError: a package that the study needs is missing, or the folder cannot be written.
    """
    if gone := missing(study):
        fix = f"install {', '.join(gone)}"
        raise UserError(f"needs packages that are not installed: {', '.join(gone)}", where=study.slug, fix=fix)
    check_writable(folder)
    (folder / "seeds").mkdir(parents=True, exist_ok=True)
    count, print_of_run = study.seeds if seeds is None else seeds, fingerprint(study, settings)
    rows, seconds = [], 0.0
    with Display(show=show).progress(f"study {study.slug}: seeds", count) as advance:
        for seed in range(count):
            path = folder / "seeds" / f"{seed}.json"
            kept: dict[str, Any] = {} if fresh else read_json(path)
            if kept.get("fingerprint") != print_of_run:
                kept = {**_run_seed(study, settings, seed), "fingerprint": print_of_run}
                write_json(path, kept)
            rows.append(_decoded(kept["rows"]))
            seconds += kept["seconds"]
            advance(1)
    results = Results(tuple(range(count)), tuple(rows), settings)
    judged, verdict = study.judge(results)
    return Finished(study, settings, results, judged, verdict, seconds)


def missing(study: Study) -> list[str]:
    """Packages that the study needs and that are not installed."""
    return [name for name in study.requires if find_spec(name) is None]


def fingerprint(study: Study, settings: StudySettings) -> str:
    """What a seed's numbers depend on besides the seed."""
    source = inspect.getsource(inspect.getmodule(study.run) or study.run)
    parts = [study.slug, settings.model_dump(mode="json"), source, __version__]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _run_seed(study: Study, settings: StudySettings, seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    with _torch(seed, study.threads):
        rows = study.run(settings, seed)
    seconds = time.perf_counter() - start
    return {"seed": seed, "seconds": round(seconds, 3), "rows": _encoded(study, rows)}


@contextmanager
def _torch(seed: int, threads: int | None) -> Iterator[None]:
    """Torch's global generator seeded, so that a new module's weights depend on the seed alone; then all as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def _encoded(study: Study, rows: Rows) -> dict[str, dict[str, Any]]:
    """Rows for JSON, which has no NaN: as text. Refuses what the declaration does not name."""
    unknown = sorted({metric for values in rows.values() for metric in values} - set(study.metrics))
    if unknown or not rows:
        raise ValueError(f"study {study.slug!r} gave {f'undeclared metrics {unknown}' if unknown else 'no rows'}")
    return {cell: {name: _plain(float(value)) for name, value in values.items()} for cell, values in rows.items()}


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _decoded(rows: dict[str, dict[str, Any]]) -> Rows:
    return {cell: {name: _number(value) for name, value in values.items()} for cell, values in rows.items()}


def _number(value: Any) -> float:
    found = number(value)
    if found is None:
        raise UserError(f"{value!r} is no number", where="a seed's file", fix="run the study again with --fresh")
    return found
