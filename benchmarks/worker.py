"""One job in a process of its own: ``python -m benchmarks.worker JOB.json RESULT.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.job import Job, Result

if TYPE_CHECKING:
    from benchmarks.run_images import ImageJob, ImageResult


def run(job: Job | ImageJob) -> Result | ImageResult:
    """Run a job here; only the contender's own libraries are imported."""
    if not isinstance(job, Job):
        from benchmarks.run_images import run as on_images

        return on_images(job)
    if job.contender.startswith("rather"):
        from benchmarks.run_rather import run as contender
    else:
        from benchmarks.run_trl import run as contender
    return contender(job)


def read(path: Path) -> Job | ImageJob:
    """The job of a file; one on images names a pipeline."""
    if "pipeline" not in json.loads(path.read_text()):
        return Job.read(path)
    from benchmarks.run_images import ImageJob

    return ImageJob(**json.loads(path.read_text()))


if __name__ == "__main__":
    found = run(read(Path(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps(found.plain()))
