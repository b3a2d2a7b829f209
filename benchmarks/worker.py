"""One job in a process of its own: ``python -m benchmarks.worker JOB.json RESULT.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.job import Job, Result


def run(job: Job) -> Result:
    """Run a job here; only the contender's own libraries are imported."""
    if job.contender.startswith("rather"):
        from benchmarks.run_rather import run as contender
    else:
        from benchmarks.run_trl import run as contender
    return contender(job)


if __name__ == "__main__":
    found = run(Job.read(Path(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps(found.plain()))
