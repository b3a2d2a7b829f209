"""Rationales written by a model: it sees both answers, is told which one was preferred, and says why.

Chunks are kept beside the output under the settings that made them, so the same command goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rather.data.identity import whole
from rather.data.parts import Parts
from rather.data.rationales import First, Kind, drawn_first, judge_prompt, one_edge, with_text
from rather.data.types import Comparison
from rather.data.writing import write_jsonl
from rather.errors import UserError

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""(what, total) -> a progress bar that takes advances."""


@dataclass(frozen=True)
class RationaleSettings:
    """What the rationales depend on, besides the data.

    Attributes:
        model: any chat model, by name or folder.
        kind: ``general``: one short sentence; ``detailed``: two or three that name the difference.
        chosen_first: show the preferred answer first in every prompt, instead of an order drawn from ``seed``.
        temperature: 0 takes the most likely token.
        chunk: prompts sampled at once; the unit that is not repeated after an interruption.
    """

    model: str
    kind: Kind = "detailed"
    chosen_first: bool = False
    max_new_tokens: int = 128
    temperature: float = 0.7
    top_p: float = 1.0
    dtype: str = "bfloat16"
    seed: int = 0
    chunk: int = 16


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        rationales: pairs with one.
        empty: pairs without: the sample was empty, or the pair too long for the model.
        others: comparisons that are no pair.
    """

    rationales: int
    empty: int
    others: int


def write_rationales(
    comparisons: Sequence[Comparison], settings: RationaleSettings, out: Path, *, progress: Progress | None = None
) -> Written:
    """Write the comparisons to ``out`` (JSON lines) with the columns ``rationale`` and ``rationale_first``.

    A pair whose sample is empty, or that is too long for the model, has a rationale of null; comparisons that are no
    pair are written as they are.

    Raises:
        UserError: the model has no chat template, cannot be loaded, or ``out`` cannot be written.
    """
    pairs = [comparison for comparison in comparisons if one_edge(comparison) is not None]
    if not pairs:
        raise UserError("holds no pair of answers", where="DATA", fix="rankings and unpaired answers get no rationale")
    parts = Parts(out, asdict(settings))
    sampler = _Sampler(settings)
    texts: list[str] = []
    with progress("writing rationales", len(pairs)) if progress else nullcontext(lambda _: None) as advance:
        for start in range(0, len(pairs), settings.chunk):
            chunk = pairs[start : start + settings.chunk]
            texts += parts.get(
                f"{start:07d}", [whole(one).hex() for one in chunk], partial(_said, chunk, settings, start, sampler)
            )
            advance(len(chunk))
    said = {pair.id: text for pair, text in zip(pairs, texts, strict=True)}
    write_jsonl([_with_rationale(one, said.get(one.id), settings) for one in comparisons], out)
    parts.clear()
    given = sum(bool(text) for text in texts)
    return Written(given, len(pairs) - given, len(comparisons) - len(pairs))


def _with_rationale(comparison: Comparison, text: str | None, settings: RationaleSettings) -> Comparison:
    return comparison if text is None else with_text(comparison, text or None, _first(comparison, settings))


def _first(comparison: Comparison, settings: RationaleSettings) -> First:
    return "chosen" if settings.chosen_first else drawn_first(comparison.id, settings.seed)


def _said(chunk: Sequence[Comparison], settings: RationaleSettings, start: int, sampler: _Sampler) -> list[str]:
    return sampler.texts([_asked(comparison, settings) for comparison in chunk], start)


def _asked(comparison: Comparison, settings: RationaleSettings) -> Any:
    edge = one_edge(comparison)
    assert edge is not None  # pairs alone are asked about
    ends = (comparison.responses[edge.winner], comparison.responses[edge.loser])
    return judge_prompt(comparison.prompt, *ends, _first(comparison, settings), settings.kind)


class _Sampler:
    """The model, loaded when the first chunk needs it."""

    def __init__(self, settings: RationaleSettings) -> None:
        self.settings = settings
        self._loaded: tuple[Any, Any] | None = None

    def texts(self, prompts: list[Any], start: int) -> list[str]:
        """A text for each prompt; empty for one that is too long for the model's context."""
        from rather.sampling.generate import generate
        from rather.sampling.prompts import encode

        model, tokenizer = self._model()
        context = getattr(model.config, "max_position_embeddings", None) or float("inf")
        encoded = [encode(tokenizer, prompt) for prompt in prompts]
        fits = [i for i, ids in enumerate(encoded) if len(ids) + self.settings.max_new_tokens <= context]
        samples = generate(
            model,
            tokenizer,
            [encoded[i] for i in fits],
            max_new_tokens=self.settings.max_new_tokens,
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            seed=self.settings.seed * 10**9 + start,
        )
        found = {i: given[0].text.strip() for i, given in zip(fits, samples, strict=True)}
        return [found.get(i, "") for i in range(len(prompts))]

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from rather.policies.device import inference_device
            from rather.policies.models import load_causal_lm, load_tokenizer

            tokenizer = load_tokenizer(self.settings.model)
            if tokenizer.chat_template is None:
                fix = "a model tuned for chat writes rationales"
                raise UserError("its tokenizer has no chat template", where=f"--model {self.settings.model}", fix=fix)
            model: Any = load_causal_lm(self.settings.model, self.settings.dtype)
            self._loaded = model.to(inference_device()), tokenizer
        return self._loaded
