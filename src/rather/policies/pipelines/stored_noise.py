"""The noise that the images of a comparison were made from: numbers in the data, or a safetensors file beside it.

Both hold [R, C, H, W], one noise for each response in their order, standard normal, before any scaling by a sampler.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rather.data.refusal import Refused

_NAME = "noise"


def write(path: Path, noise: np.ndarray) -> None:
    """Whole or not at all."""
    from safetensors.numpy import save

    from rather.data.parts import write_whole

    write_whole(path, save({_NAME: np.ascontiguousarray(noise, np.float32)}))


def shape(given: Any) -> tuple[int, ...]:
    """The shape of numbers, or of those in the file of a name; without reading them.

    Raises:
        Refused: they are no array, or the file cannot be read.
    """
    if not isinstance(given, str):
        try:
            return np.shape(given)
        except ValueError:
            raise Refused("ragged-lists", "the stored noise is no array of numbers") from None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(given, "np") as file:
            return tuple(file.get_slice(_NAME).get_shape())
    except (OSError, SafetensorError) as error:
        raise Refused("missing-file", f"the stored noise {given} cannot be read: {error}") from None


def numbers(given: Any) -> np.ndarray:
    """[R, C, H, W] float32."""
    if isinstance(given, str):
        from safetensors.numpy import load_file

        given = load_file(given)[_NAME]
    return np.asarray(given, np.float32)
