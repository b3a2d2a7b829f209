"""Weights that come with the package: the autoencoder of shapes, and base models that take an hour of a processor.

What comes with the package is trained anew by

    python -m rather.policies.shapes.weights autoencoder    # then v, flow
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from rather.data.parts import write_whole
from rather.paths import cache_dir
from rather.policies.pipelines.architectures import ARCHITECTURES, text_encoders
from rather.policies.pipelines.quiet import quiet
from rather.policies.shapes.autoencoder import RATE, ShapesAutoencoder, loss
from rather.policies.shapes.build import build
from rather.policies.shapes.fit import Progress, fit
from rather.policies.shapes.pretrain import pretrain
from rather.policies.shapes.processes import Process
from rather.progress import progress_bar

STEPS = 5000
"""Of the base models, with 64 pictures each."""
_AUTOENCODER_STEPS = 2400
_SCALE = "scaling_factor"


def packaged(name: str) -> Path:
    """The file of ``autoencoder`` or of a process; there may be none."""
    return Path(__file__).parent / "data" / f"{name}.safetensors"


def autoencoder() -> ShapesAutoencoder:
    """The one that comes with the package."""
    from safetensors.torch import load_file

    tensors = load_file(packaged("autoencoder"))
    model = ShapesAutoencoder(scaling_factor=float(tensors.pop(_SCALE)))
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def base(process: Process, steps: int, seed: int, kept: Path) -> Any:
    """A trained pipeline: with the weights that come with the package where they are those asked for, else trained here.

    Args:
        kept: file of an interrupted training.
    """
    from safetensors.torch import load_file

    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        pipeline = build(process, autoencoder())
    if (steps, seed) == (STEPS, 0) and packaged(process).is_file():
        tensors = load_file(packaged(process))
        for name, part in _parts(pipeline).items():
            mine = {key: tensors[f"{name}/{key}"].float() for key, _ in part.named_parameters()}
            part.load_state_dict(mine, strict=False)
        return pipeline
    with _bar(f"training the base model of shapes ({process}), once", steps) as progress:
        pretrain(pipeline, steps, seed, kept, progress)
    return pipeline


def _parts(pipeline: Any) -> dict[str, nn.Module]:
    """What pretraining trains."""
    component = ARCHITECTURES[type(pipeline).__name__]().component
    return {**text_encoders(pipeline), component: getattr(pipeline, component)}


def write(name: str, tensors: Mapping[str, Tensor]) -> None:
    """In half precision."""
    from safetensors.torch import save

    held = {key: tensor.detach().half().contiguous() for key, tensor in tensors.items()}
    packaged(name).parent.mkdir(exist_ok=True)
    write_whole(packaged(name), save(held))


def write_pipeline(process: Process, pipeline: Any) -> None:
    parts = _parts(pipeline)
    write(
        process, {f"{name}/{key}": weight for name, part in parts.items() for key, weight in part.named_parameters()}
    )


def write_autoencoder(model: ShapesAutoencoder) -> None:
    write("autoencoder", {**model.state_dict(), _SCALE: torch.tensor(model.config[_SCALE])})


def _trained_autoencoder(kept: Path) -> ShapesAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ShapesAutoencoder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with _bar("training the autoencoder of shapes", _AUTOENCODER_STEPS) as progress:
        fit({"autoencoder": model}, lambda step: loss(model, 0, step), _AUTOENCODER_STEPS, RATE, 0, kept, progress)
    model.rescale(0)
    return model


@contextmanager
def _bar(what: str, steps: int) -> Iterator[Progress]:
    with progress_bar(what, steps) as advance:
        reached = 0

        def reach(step: int, loss: float) -> None:
            nonlocal reached
            advance(step - reached)
            reached = step

        yield reach


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("autoencoder", *get_args(Process)))
    name = parser.parse_args().name
    kept = cache_dir() / "toys" / f"shapes-{name}.training"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if name == "autoencoder":
        write_autoencoder(_trained_autoencoder(kept))
    else:
        packaged(name).unlink(missing_ok=True)
        write_pipeline(name, base(name, STEPS, 0, kept))
    kept.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
