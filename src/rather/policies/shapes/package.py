"""Write the base models that come with the package: ``python -m rather.policies.shapes.package v flow``.

They are trained here if they are not in the cache yet, an hour on one core each, and written in half precision.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rather.policies.pipelines.opening import load
from rather.policies.shapes.base import base_folder, packaged_weights, trained_parts
from rather.policies.shapes.processes import Process


def package(process: Process, pipeline: Any) -> Path:
    """Weights of the trained parts into the package."""
    from safetensors.torch import save_file

    tensors = {
        f"{name}/{key}": x.half().clone() if x.is_floating_point() else x.clone()  # safetensors wants no shared memory
        for name, part in trained_parts(pipeline).items()
        for key, x in part.state_dict().items()
    }
    path = packaged_weights(process)
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def main(arguments: Sequence[str]) -> None:
    for process in arguments:
        if process not in ("epsilon", "v", "flow"):
            raise SystemExit(f"{process!r} is no process: epsilon, v or flow")
        packaged_weights(process).unlink(missing_ok=True)
        folder = base_folder(f"toy:shapes?process={process}")
        print(package(process, load(str(folder), folder)[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
