"""What frozen parts make of images and captions, kept on disk: VAE and text encoders see each of them once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from rather.paths import cache_dir

Item = TypeVar("Item")


class Store:
    """A folder of safetensors files under a fingerprint of what makes them.

    Args:
        kind: ``latents`` or ``texts``.
        fingerprint: of the model that makes them, and of every setting that they depend on.
    """

    def __init__(self, kind: str, fingerprint: str) -> None:
        self.folder = cache_dir() / "images" / f"{kind}-{fingerprint}"
        self.read = lru_cache(maxsize=512)(self._read)

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def fill(
        self,
        items: dict[str, Item],
        make: Callable[[Sequence[Item]], Sequence[dict[str, Tensor]]],
        batch: int,
    ) -> int:
        """Make what is missing of ``items`` (key -> what it is made of), ``batch`` at a time; returns how many were."""
        missing = [key for key in items if not self.path(key).is_file()]
        for start in range(0, len(missing), batch):
            some = missing[start : start + batch]
            for key, tensors in zip(some, make([items[key] for key in some]), strict=True):
                self._write(key, tensors)
        return len(missing)

    def _write(self, key: str, tensors: dict[str, Tensor]) -> None:
        from safetensors.torch import save_file

        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        save_file({name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}, partial)
        os.replace(partial, path)

    def _read(self, key: str) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        return load_file(self.path(key))


def content_key(*parts: bytes | str | int | bool) -> str:
    """Hexadecimal hash of the parts."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()
