"""The token ids that every contender is given: the same prompts and answers, already cut to length.

Tokenization is not measured. That both sides make the same tokens of the same text is a test of its own
(``tests/policies/test_trl_parity.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rather.data.types import Comparison, Edge
from rather.errors import UserError


@dataclass(frozen=True)
class Ids:
    """A comparison in token ids; the first response is preferred to each of the others."""

    id: str
    prompt: list[int]
    responses: list[list[int]]

    @property
    def needed(self) -> int:
        """Positions that have to be computed at least: the prompt once, and each response."""
        return len(self.prompt) + sum(map(len, self.responses))

    @property
    def pairs(self) -> int:
        return len(self.responses) - 1

    def comparison(self) -> Comparison:
        """The same as the library's type, with the ids in place of the text."""
        edges = tuple(Edge(0, loser) for loser in range(1, len(self.responses)))
        return Comparison(self.id, tuple(self.prompt), tuple(map(tuple, self.responses)), edges)


def save(path: Path, comparisons: Sequence[Ids]) -> Path:
    path.write_text(json.dumps([asdict(each) for each in comparisons]))
    return path


def read(path: str | Path) -> list[Ids]:
    return [Ids(**row) for row in json.loads(Path(path).read_text())]


def real(source: str, tokenizer: Any, *, number: int, max_length: int, seed: int) -> list[Ids]:
    """Pairs of a file or a world, drawn in a seeded order, tokenized as the library does it.

    Raises:
        UserError: there are fewer usable pairs than asked for.
    """
    from rather.data.load import load
    from rather.policies.encoding_report import EncodingReport
    from rather.policies.tokenization import TextEncoder

    pairs = [c for c in load(source) if len(c.responses) == 2 and len(c.edges) == 1]
    if len(pairs) < number:
        raise UserError(f"holds {len(pairs)} pairs, {number} are needed", where=f"--pairs {source}")
    order = np.random.default_rng(seed).permutation(len(pairs))
    encoder = TextEncoder(tokenizer, max_length=max_length)
    found: list[Ids] = []
    for start in range(0, len(pairs), number):
        chosen = [pairs[i] for i in order[start : start + number]]
        for comparison, (tokens,) in encoder.encode(chosen, EncodingReport(), progress=False):
            edge = comparison.edges[0]
            responses = [tokens.responses[edge.winner].tolist(), tokens.responses[edge.loser].tolist()]
            found.append(Ids(f"pair-{len(found)}", tokens.prompt.tolist(), responses))
        if len(found) >= number:
            return found[:number]
    raise UserError(f"holds {len(found)} pairs that can be encoded, {number} are needed", where=f"--pairs {source}")


def usual_ids(tokenizer: Any) -> np.ndarray:
    """Ids of the vocabulary that are ordinary tokens."""
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return np.array([i for i in range(len(tokenizer)) if i not in special])


def synthetic(
    vocabulary: np.ndarray, *, number: int, prompt: int, answer: int, negatives: int = 1, seed: int = 0
) -> list[Ids]:
    """Comparisons of random tokens, each with a prompt and ``1 + negatives`` answers of exactly these lengths."""
    random = np.random.default_rng(seed)

    def draw(size: int) -> list[int]:
        return random.choice(vocabulary, size).tolist()

    return [Ids(f"synthetic-{i}", draw(prompt), [draw(answer) for _ in range(1 + negatives)]) for i in range(number)]


def summary(comparisons: Iterable[Ids]) -> dict[str, float]:
    """Mean lengths, for the record."""
    rows = list(comparisons)
    answers = [len(response) for row in rows for response in row.responses]
    return {
        "comparisons": len(rows),
        "pairs": sum(row.pairs for row in rows),
        "prompt_tokens": float(np.mean([len(row.prompt) for row in rows])),
        "answer_tokens": float(np.mean(answers)),
        "longest": max(len(row.prompt) + max(map(len, row.responses)) for row in rows),
    }
