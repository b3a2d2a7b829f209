"""A run in its own process: ``python worker.py '{"output": ..., ...}'``; what it was told is in the JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.catalogue import CataloguePolicy, comparisons
from training.runs import short

from rather.training import loop


def main() -> None:
    options: dict[str, Any] = json.loads(sys.argv[1])
    pause = options.pop("pause", 0.0)
    policy = CataloguePolicy(adapters=options.pop("adapters", False), dropout=options.pop("dropout", 0.0))
    data = comparisons(options.pop("number", 40))
    if pause:
        step = loop.Loop.step

        def slow(self: loop.Loop, number: int) -> loop.Step:
            time.sleep(pause)  # so that a signal finds the run between its first and its last step
            return step(self, number)

        loop.Loop.step = slow  # type: ignore[method-assign]
    result = short(Path(options.pop("output")), policy=policy, data=data, **options)
    sys.exit(130 if result.status == "interrupted" else 0)


if __name__ == "__main__":
    main()
