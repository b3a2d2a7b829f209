"""Text encoders of shapes learn to read captions before denoisers learn from them: what is said can be told from one state.

A denoiser's loss says little about words, so encoders that start at random cost it most of its pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from rather.worlds.shapes.caption import parse
from rather.worlds.shapes.demand import Demand, Wanted
from rather.worlds.shapes.scene import BACKGROUNDS, COLOURS, MOST, PLACES, RELATIONS, SHAPES, SIZES, TEXTURES
from rather.worlds.shapes.sloppy import captions

BATCH, RATE = 128, 1e-3
_THING = {"shape": SHAPES, "colour": tuple(COLOURS), "texture": TEXTURES, "size": SIZES}
_WHOLE = {"relation": RELATIONS, "place": tuple(PLACES), "background": tuple(BACKGROUNDS)}
SLOTS = (MOST, *(len(values) + 1 for values in (*_THING.values(), *_THING.values(), *_WHOLE.values())))
"""Answers to each question that is asked about a caption; what is not said is an answer too."""


class Reader(nn.Module):
    """One linear answer to each question, from one state of a caption: an encoder's pooled one, or else its tokens' mean.

    Args:
        width: of the states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.answers = nn.Linear(width, sum(SLOTS))

    def forward(self, state: Tensor, asked: Tensor) -> Tensor:
        """Mean cross-entropy of states [n, width] against right answers [n, slots]."""
        each = self.answers(state).split(SLOTS, -1)
        return torch.stack(
            [nn.functional.cross_entropy(x, y) for x, y in zip(each, asked.unbind(1), strict=True)]
        ).mean()


def readers(encoders: Mapping[str, Any]) -> dict[str, nn.Module]:
    """One for each text encoder of a pipeline."""
    return {f"{name}_reader": Reader(encoder.config.hidden_size) for name, encoder in encoders.items()}


def loss(pipeline: Any, encoders: Mapping[str, Any], known: Mapping[str, nn.Module], seed: int, step: int) -> Tensor:
    """Sum over the encoders, each of which reads the captions alone."""
    texts = list(islice(captions(seed, step), BATCH))
    words = pipeline.tokenizer(texts, padding="max_length", return_tensors="pt")
    total = torch.zeros(())
    for name, encoder in encoders.items():
        device = encoder.device
        found = encoder(words["input_ids"].to(device))
        state = found.pooler_output if "pooler_output" in found else found.last_hidden_state.mean(1)
        total = total + known[f"{name}_reader"](state, answers(texts).to(device)).cpu()
    return total


def answers(texts: list[str]) -> Tensor:
    """[n, slots] of captions that demands are worded as."""
    return torch.tensor([_answers(demand) for demand in map(parse, texts) if demand is not None])


def _answers(demand: Demand) -> list[int]:
    things: list[Wanted | None] = [*demand.wanted, None][:2]
    told = [(getattr(thing, name, None), values) for thing in things for name, values in _THING.items()]
    told += [(getattr(demand, name), values) for name, values in _WHOLE.items()]
    return [demand.count - 1, *(0 if value is None else values.index(value) + 1 for value, values in told)]
