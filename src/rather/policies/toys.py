"""Toy models by name: ``toy:points``, ``toy:shapes`` and ``toy:shop``, with options as a query.

Their weights are trained once, on the spot, and kept in the user's cache; ``weights=FOLDER`` opens a trained copy.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from rather.errors import UserError, nearest
from rather.policies.base import Policy
from rather.policies.packaged import cache_dir
from rather.policies.settings import PolicySettings
from rather.worlds.query import Options, read_options, split_query

TOYS = {
    "points": "rather.policies.points:open_points",
    "shapes": "rather.policies.pipelines.opening:open_image",
    "shop": "rather.policies.catalogue:open_shop_policy",
}
"""Name -> ``module:function`` of the settings."""


def open_toy(settings: PolicySettings) -> Policy:
    """The policy of ``toy:NAME?key=value``.

    Raises:
        UserError: no such toy, an unknown option, or a setting that toys do not have.
    """
    where = settings.model
    name, _ = split_query(where.removeprefix("toy:"), where)
    if name not in TOYS:
        raise UserError(f"there is no toy model {name!r}", where=where, fix=nearest(name, TOYS))
    module, _, function = TOYS[name].partition(":")
    opened: Callable[[PolicySettings], Policy] = getattr(importlib.import_module(module), function)
    return opened(settings)


def read_toy(options: type[Options], settings: PolicySettings) -> Options:
    """The options of a toy that is trained whole.

    Raises:
        UserError: an unknown option, a value out of range, or ``--lora``.
    """
    if settings.lora:
        raise UserError("this toy model is trained whole, it has no adapters", where="--lora", fix="leave --lora out")
    return read_options(options, split_query(settings.model, settings.model)[1], settings.model)


def load_weights(network: nn.Module, folder: str, where: str) -> None:
    """Fill ``network`` from ``folder/model.safetensors``, as ``save_weights`` wrote it."""
    from safetensors.torch import load_file

    path = Path(folder).expanduser() / "model.safetensors"
    if not path.is_file():
        raise UserError(f"there is no {path}", where=where, fix="weights=FOLDER names the model folder of a run")
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise UserError(f"{path} does not fit this model: {error}", where=where) from None


def save_weights(network: nn.Module, folder: Path, config: dict[str, object]) -> None:
    """``model.safetensors`` and ``config.json``."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def trained_once(network: nn.Module, name: str, train: Callable[[nn.Module], None]) -> None:
    """Give ``network`` the cached weights ``name``, or train it and cache them. A second process waits for the first.

    Raises:
        UserError: the cache cannot be written; said before the training (a disk that fills up, after it), and also where the
            weights are already there.
    """
    from safetensors.torch import save_file

    path = cache_dir() / "toys" / f"{name}.safetensors"

    def make() -> None:
        train(network)
        handle, partial = tempfile.mkstemp(prefix=f".{name}.", dir=path.parent)
        os.close(handle)
        save_file(network.state_dict(), partial, metadata={"format": "pt"})
        os.replace(partial, path)

    made_once(path, lambda: path.is_file() and _fill(network, path), make)


def made_once(path: Path, there: Callable[[], bool], make: Callable[[], None]) -> None:
    """``make`` what belongs at ``path`` of the cache, unless it is ``there``. A second process waits for the first.

    Raises:
        UserError: the cache cannot be written.
    """
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not there():
                make()
    except OSError as error:
        raise UserError(
            f"the cache cannot be written: {error}", where=str(path), fix="set RATHER_CACHE to a writable folder"
        ) from error


def _fill(network: nn.Module, path: Path) -> bool:
    """Load cached weights; False for a file that is damaged or of another library version: it is made anew."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError):
        return False
    return True


def weights_hash(state: dict[str, Tensor], *more: object) -> str:
    """Hash of all weights and of whatever else decides a score."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    digest.update(repr(more).encode())
    return digest.hexdigest()
