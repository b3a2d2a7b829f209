"""A run in its own process: ``python worker.py '{"output": ..., ...}'``; what it was told is in the JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from rather.training import loop
from training.catalogue import CataloguePolicy, comparisons
from training.runs import short


def shard_on_cpu() -> None:
    """FSDP2 by torch itself: accelerate shards on accelerators only."""
    from accelerate import Accelerator
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def prepare(self: Accelerator, learner: Any, optimizer: Any) -> tuple[Any, Any]:
        names = {id(parameter): name for name, parameter in learner.named_parameters()}
        fully_shard(learner, mesh=init_device_mesh("cpu", (torch.distributed.get_world_size(),)))
        sharded = dict(learner.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [sharded[names[id(parameter)]] for parameter in group["params"]]
        return learner, optimizer

    Accelerator.prepare = prepare  # type: ignore[method-assign,assignment]


def main() -> None:
    options: dict[str, Any] = json.loads(sys.argv[1])
    if options.pop("shard", False):
        shard_on_cpu()
    pause = options.pop("pause", 0.0)
    policy = CataloguePolicy(adapters=options.pop("adapters", False), dropout=options.pop("dropout", 0.0))
    number = options.pop("number", 40)
    data = options.pop("data", None) or comparisons(number)
    if pause:
        step = loop.Loop.step

        def slow(self: loop.Loop, number: int) -> loop.Step:
            time.sleep(pause)  # so that a signal finds the run between its first and its last step
            return step(self, number)

        loop.Loop.step = slow  # type: ignore[method-assign]
    # A model in the options is opened by name, as sharded ones are again for saving.
    result = short(Path(options.pop("output")), policy=policy, data=data, **options)
    sys.exit(130 if result.status == "interrupted" else 0)


if __name__ == "__main__":
    main()
