"""From comparisons to token ids, with the boundary between prompt and response proved on each example.

Prompt and prompt-with-response are tokenized as wholes and compared: the prompt's ids must be a prefix. Where they are
not, the response is tokenized apart, so that no token spans the boundary, and the repair is counted. So a response is
always scored after exactly the ids that the model is given at inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rather.data.types import Comparison
from rather.policies.encoding_report import EncodingReport
from rather.policies.rendering import Rendered, Unusable, render_chat, render_raw, template_mode
from rather.progress import progress_bar

Truncation = Literal["prompt_start", "response_end", "drop"]

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<turn|>", "<|endoftext|>", "<|end_of_text|>")
"""Known ends of a chat turn; one counts only where the tokenizer has it as a single special token."""

_CHUNK = 512  # comparisons tokenized in one call
_LONG = 4000  # comparisons from which a progress bar is worth showing
_TAIL = 4  # an end token may be followed by a newline or two of the template

SPLIT = "a token would span the boundary, response tokenized apart"
OPENING = "the template opens the answer differently when it is known, prompt kept as at inference"


@dataclass(frozen=True)
class Tokens:
    """Ids of one comparison.

    Attributes:
        prompt: [P] int32, at least one.
        responses: int32, each at least one.
        weights: float32, of each token of each response; empty where none were asked for.
    """

    prompt: np.ndarray
    responses: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(len(response) for response in self.responses)


class TextEncoder:
    """Encodes comparisons for one tokenizer.

    Args:
        tokenizer: a tokenizer of transformers.
        template: ``auto`` (the chat template where there is one), ``chat`` or ``none``.
        max_length: longest prompt plus response.
        truncation: what is cut from a longer one. ``prompt_start`` keeps the responses whole and cuts the prompt's
            start, by the longest response, as responses share the prompt; ``response_end`` keeps the prompt;
            ``drop`` leaves the comparison out.
        end_ids: further ids that end a response (the model's own).
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        template: Literal["auto", "chat", "none"] = "auto",
        max_length: int = 2048,
        truncation: Truncation = "prompt_start",
        end_ids: Sequence[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.mode = template_mode(tokenizer, template)
        self.max_length = max_length
        self.truncation: Truncation = truncation
        self.end = tokenizer.eos_token_id
        added = tokenizer.get_added_vocab()
        self.end_ids = {*end_ids, *(added[t] for t in TURN_ENDS if t in added)} | ({self.end} - {None})
        self.end_texts = [tokenizer.decode([i]) for i in sorted(self.end_ids)]
        self.before = _automatic_prefix(tokenizer)

    def encode(
        self, comparisons: Sequence[Comparison], report: EncodingReport, *, progress: bool | None = None
    ) -> list[tuple[Comparison, tuple[Tokens, ...]]]:
        """Ids of every comparison that can be used, in order; the rest are counted in ``report``.

        A comparison's ids are those of its own prompt and responses, then of each prompt that auxiliary responses
        bring (``Comparison.parts``).

        Args:
            progress: show a bar on standard error; by default for long inputs.
        """
        report.comparisons += len(comparisons)
        found: list[tuple[Comparison, tuple[Tokens, ...]]] = []
        long = len(comparisons) >= _LONG
        with progress_bar("tokenizing", len(comparisons), show=long if progress is None else progress) as advance:
            for start in range(0, len(comparisons), _CHUNK):
                chunk = comparisons[start : start + _CHUNK]
                found += self._encode_chunk(chunk, report)
                advance(len(chunk))
        report.encoded += len(found)
        return found

    def _encode_chunk(
        self, comparisons: Sequence[Comparison], report: EncodingReport
    ) -> list[tuple[Comparison, tuple[Tokens, ...]]]:
        rendered: list[tuple[Comparison, list[Rendered]]] = []
        for comparison in comparisons:
            try:
                rendered.append((comparison, [self._render(part) for part in comparison.parts()]))
            except Unusable as reason:
                report.drop(_where(comparison), str(reason))
        texts = [text for _, parts in rendered for part in parts for text in (part.prompt, *part.wholes)]
        ids = iter(self._ids(texts))
        found = []
        for comparison, parts in rendered:
            of_parts = [(next(ids), [next(ids) for _ in part.wholes], part) for part in parts]
            try:
                tokens = tuple(self._truncate(self._divide(*part, report), report) for part in of_parts)
            except Unusable as reason:
                report.drop(_where(comparison), str(reason))
                continue
            report.prompt_lengths.append(len(tokens[0].prompt))
            report.response_lengths += tokens[0].lengths[: len(comparison.responses)]
            found.append((comparison, tokens))
        return found

    def _render(self, comparison: Comparison) -> Rendered:
        if not comparison.responses:
            raise Unusable("there is no response")
        if self.mode == "raw":
            return render_raw(comparison)
        return render_chat(self.tokenizer, comparison, self.end_texts)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids without anything the tokenizer adds by itself."""
        if not texts:
            return []
        return self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]

    def _divide(
        self, prompt: list[int], wholes: list[list[int]], rendered: Rendered, report: EncodingReport
    ) -> tuple[list[int], list[list[int]]]:
        responses = []
        for whole, text, content in zip(wholes, rendered.wholes, rendered.contents, strict=True):
            size = len(prompt)
            clean = whole[:size] == prompt
            response = whole[size:] if clean else self._mend(text, content, rendered, report)
            if not response:
                raise Unusable("a response has no token")
            responses.append(self._ended(response, report))
        return self._started(prompt), responses

    def _mend(self, whole: str, content: str | None, rendered: Rendered, report: EncodingReport) -> list[int]:
        """The response's ids where the prompt's are not a prefix of the whole's."""
        if whole.startswith(rendered.prompt):
            report.repairs[SPLIT] += 1
            return self._ids_apart(whole[len(rendered.prompt) :])
        bare = rendered.bare() if rendered.bare else None
        if bare is not None and content and whole.startswith(bare):
            start = whole.find(content.strip(), len(bare))
            if start >= 0:
                report.repairs[OPENING] += 1
                return self._ids_apart(whole[start:])
        raise Unusable("the chat template renders the prompt differently once the response follows")

    def _ids_apart(self, text: str) -> list[int]:
        """Ids of a continuation: as they would be after a special token, so that no leading space is made up."""
        token = self.tokenizer.eos_token
        if token is not None:
            ids = self._ids([token + text])[0]
            stripped = getattr(self.tokenizer.added_tokens_decoder.get(self.end), "rstrip", False)
            if ids and ids[0] == self.end and not stripped:
                return ids[1:]
        return self._ids([text])[0]

    def _started(self, prompt: list[int]) -> list[int]:
        """The prompt as the model expects a text to begin, never with two begin tokens; never empty."""
        if self.mode == "raw" and self.before and prompt[: len(self.before)] != self.before:
            prompt = [*self.before, *prompt]
        if not prompt:  # an unconditional text starts from the token that separates texts
            start = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.end
            if start is None:
                raise Unusable("the prompt is empty and the tokenizer has no token that begins a text")
            prompt = [start]
        return prompt

    def _ended(self, response: list[int], report: EncodingReport) -> list[int]:
        tail = response[-1:] if self.mode == "raw" else response[-_TAIL:]
        if self.end is None or not self.end_ids.isdisjoint(tail):
            return response
        report.ends_added += self.mode == "chat"
        return [*response, self.end]

    def _truncate(self, ids: tuple[list[int], list[list[int]]], report: EncodingReport) -> Tokens:
        prompt, responses = ids
        longest = max(map(len, responses))
        over = len(prompt) + longest - self.max_length
        if over > 0:
            before = len(prompt) + sum(map(len, responses))
            prompt, responses = self._cut(prompt, responses, over)
            report.truncated += 1
            report.tokens_cut += before - len(prompt) - sum(map(len, responses))
        return Tokens(np.asarray(prompt, np.int32), tuple(np.asarray(r, np.int32) for r in responses))

    def _cut(self, prompt: list[int], responses: list[list[int]], over: int) -> tuple[list[int], list[list[int]]]:
        limit = f"max_length ({self.max_length})"
        if self.truncation == "drop":
            raise Unusable(f"longer than {limit}")
        if self.truncation == "response_end":
            room = self.max_length - len(prompt)
            if room < 1:
                raise Unusable(f"the prompt alone fills {limit}, no response token is left")
            return prompt, [response[:room] for response in responses]
        start = int(prompt[0] in (self.tokenizer.bos_token_id, *self.before[:1]))
        if len(prompt) - over <= start:
            raise Unusable(f"a response leaves no room for its prompt within {limit}")
        return prompt[:start] + prompt[start + over :], responses


def _automatic_prefix(tokenizer: Any) -> list[int]:
    """Ids the tokenizer puts before a text by itself (a begin token, or nothing)."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    dressed = tokenizer("a")["input_ids"]
    for start in range(len(dressed) - len(bare) + 1):
        if dressed[start : start + len(bare)] == bare:
            return list(dressed[:start])
    return []


def _where(comparison: Comparison) -> str:
    return str(comparison.source) if comparison.source else comparison.id
