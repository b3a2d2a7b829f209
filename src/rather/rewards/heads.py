"""Linear heads on embeddings, from a file: layers without activations between them, as LAION's aesthetic predictor has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from rather.errors import UserError


class LinearHead:
    """A chain of linear maps from [d] to one number.

    Args:
        layers: (weight [out, in], bias [out]) in their order.
    """

    def __init__(self, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.layers = layers

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """[n] of ``points`` [n, d]."""
        for weight, bias in self.layers:
            points = points @ weight.T + bias
        return points[:, 0]

    @staticmethod
    def read(path: Path, width: int) -> LinearHead:
        """From a safetensors file, see ``of``.

        Raises:
            UserError: it cannot be read, or its layers do not lead from ``width`` numbers to one.
        """
        return LinearHead.of(read_tensors(path), width, str(path))

    @staticmethod
    def of(tensors: Mapping[str, Tensor], width: int, where: str) -> LinearHead:
        """Every tensor ``*weight`` is a layer, in the order of the numbers in the names, with the ``*bias`` of the same name
        (none: zero).

        Args:
            width: of what it is put on.
            where: they came from.

        Raises:
            UserError: the layers do not lead from ``width`` numbers to one.
        """
        found = {name: tensor.double().numpy() for name, tensor in tensors.items()}
        names = sorted((name for name in found if name.endswith("weight")), key=_numbers)
        layers = []
        at = width
        for name in names:
            weight = found[name]
            if weight.ndim != 2 or weight.shape[1] != at:
                what = f"{name} is {' x '.join(map(str, weight.shape))}, but gets {at} numbers"
                raise UserError(what, where=where, fix="give the head that was fitted to this model")
            at = len(weight)
            layers.append((weight, found.get(f"{name.removesuffix('weight')}bias", np.zeros(at))))
        if at != 1 or not layers:
            raise UserError("its layers do not end in one number", where=where, fix="a head gives one score")
        return LinearHead(layers)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Of a safetensors file.

    Raises:
        UserError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot be read as safetensors: {error}", where=str(path)) from None


def _numbers(name: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", name)], name
