"""The formats of preference data: told apart by their columns, each read into a ``Comparison``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rather.data import fields, transcripts
from rather.data.refusal import Refused
from rather.data.types import Comparison, Edge, Prompt, Response, Source
from rather.errors import UserError, nearest

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Parsed:
    """What a format reads from a row; the optional columns and the id are added for every format alike."""

    prompt: Prompt
    responses: tuple[Response, ...]
    order: tuple[tuple[int, int], ...] = ()
    desirable: tuple[bool, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Format:
    """A format: the columns that tell it, and how a row is read.

    Attributes:
        columns: all of these are there; one of the alternatives where an entry has several, as ``a|b``.
        lists: of these, the columns that hold lists (a pair and a list share column names).
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[Row], Parsed]
    lists: tuple[str, ...] = ()

    def fits(self, columns: Collection[str], row: Row) -> bool:
        if not all(any(name in columns for name in entry.split("|")) for entry in self.columns):
            return False
        return all(isinstance(row.get(name), list) and not fields.is_messages(row[name]) for name in self.lists)


def _first(row: Row, *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _shared(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many turns two conversations share at their start; at least one turn is left as response."""
    most = min(len(first), len(second)) - 1
    count = 0
    while count < most and first[count] == second[count]:
        count += 1
    return count


def _pair(row: Row) -> Parsed:
    """prompt, chosen, rejected; chosen and rejected may repeat the prompt's messages."""
    chosen, rejected, given = row.get("chosen"), row.get("rejected"), row["prompt"]
    if fields.is_messages(chosen) and fields.is_messages(rejected):
        first, second = fields.messages(chosen, "chosen"), fields.messages(rejected, "rejected")
        if first[0]["role"] != "assistant" or second[0]["role"] != "assistant":
            shared = _shared(first, second)
            head = fields.prompt(given)
            want = head[-1]["content"] if not isinstance(head, str) else head
            if not shared or fields.text_of(first[shared - 1]["content"]).strip() != str(want).strip():
                raise Refused(
                    "prompts-differ", "the messages of chosen and rejected do not start with the row's prompt"
                )
            return _two(tuple(first[:shared]), first[shared:], second[shared:])
    if transcripts.is_transcript(given) and isinstance(chosen, str):
        turns = tuple(transcripts.parse(str(given)))
        if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"]:
            turns = turns[:-1]
        return _two(turns, chosen, rejected)
    return _two(fields.prompt(given), chosen, rejected)


def _implicit(row: Row) -> Parsed:
    """chosen and rejected with a shared start: transcripts, message lists, or plain texts."""
    chosen, rejected = row["chosen"], row["rejected"]
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        if value is None or value == "" or value == []:
            raise Refused("empty-field", f"{name} is empty")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not (transcripts.is_transcript(chosen) and transcripts.is_transcript(rejected)):
            raise Refused("no-prompt", "there is no prompt column, and the texts are not Human/Assistant transcripts")
        chosen, rejected = transcripts.parse(chosen), transcripts.parse(rejected)
    first, second = fields.messages(chosen, "chosen"), fields.messages(rejected, "rejected")
    if first == second:
        raise Refused("equal", "chosen and rejected are the same")
    shared = _shared(first, second)
    for name, turns in (("chosen", first), ("rejected", second)):
        if turns[-1]["role"] != "assistant":
            raise Refused("not-assistant", f"{name} does not end with an assistant's turn")
    if not shared or first[shared]["role"] != "assistant" or second[shared]["role"] != "assistant":
        raise Refused(
            "prompts-differ", "chosen and rejected differ before the assistant's answer: their prompts differ"
        )
    return _two(tuple(first[:shared]), first[shared:], second[shared:])


def _two(prompt: Prompt, chosen: Any, rejected: Any) -> Parsed:
    responses = (fields.response(chosen, "chosen"), fields.response(rejected, "rejected"))
    if responses[0] == responses[1]:
        raise Refused("equal", "chosen and rejected are the same")
    return Parsed(prompt, responses, ((0, 1),))


def _negatives(row: Row) -> Parsed:
    """One positive, many negatives."""
    history = row.get("history")
    prompt = _first(row, "prompt") if history is None else history
    if isinstance(prompt, list) and prompt and not fields.is_messages(prompt):
        prompt = "\n".join(str(item) for item in prompt)
    positive = fields.response(_first(row, "positive", "chosen"), "positive")
    given = fields.sequence(_first(row, "negatives", "rejected"), "negatives")
    negatives = [fields.response(value, "negatives") for value in given]
    if not negatives:
        raise Refused("empty-field", "there are no negatives")
    if positive in negatives:
        raise Refused("equal", "the positive is also among the negatives")
    if len({json.dumps(n, default=str) for n in negatives}) < len(negatives):
        raise Refused("repeated-response", "a negative is there twice")
    return Parsed(fields.prompt(prompt), (positive, *negatives), tuple((0, i + 1) for i in range(len(negatives))))


def _ranking(row: Row) -> Parsed:
    """Responses with scores (more is better) or ranks (1 is best): an edge for every strictly ordered pair."""
    given = fields.sequence(_first(row, "responses", "completions"), "responses")
    scores, ranks = _first(row, "scores", "ratings"), row.get("ranks")
    if given and isinstance(given[0], Mapping) and "role" not in given[0]:
        texts = [_first(item, "response", "completion", "text", "content") for item in given]
        scores = [_first(item, "score", "overall_score", "rating") for item in given] if scores is None else scores
        ranks = [item.get("rank") for item in given] if ranks is None and "rank" in given[0] else ranks
    else:
        texts = list(given)
    key, sign = ("ranks", -1) if ranks is not None else ("scores", 1)
    values = fields.sequence(ranks if ranks is not None else scores, key)
    if len(values) != len(texts):
        raise Refused("ragged-lists", f"{len(texts)} responses but {len(values)} {key}")
    responses = tuple(fields.response(text, f"responses[{i}]") for i, text in enumerate(texts))
    if len(responses) < 2:
        raise Refused("too-few", "a ranking needs at least two responses")
    numbers = []
    for i, value in enumerate(values):
        read = fields.number(value, f"{key}[{i}]")
        if read is None:
            raise Refused("missing-field", f"{key}[{i}] is missing")
        numbers.append(sign * read)
    order = tuple((i, j) for i, a in enumerate(numbers) for j, b in enumerate(numbers) if a > b)
    if not order:
        raise Refused("all-tied", f"all {key} are equal: nothing is preferred to anything")
    prompt = _first(row, "prompt", "instruction", "context", "question")
    return Parsed(fields.prompt(prompt), responses, order, scores=tuple(numbers) if sign > 0 else ())


def _unpaired(row: Row) -> Parsed:
    """One completion, marked desirable or not."""
    completion = fields.response(_first(row, "completion", "response"), "completion")
    return Parsed(fields.prompt(row.get("prompt")), (completion,), desirable=(fields.label(row.get("label")),))


def _demonstration(row: Row) -> Parsed:
    return Parsed(fields.prompt(row.get("prompt")), (fields.response(row.get("completion"), "completion"),))


def _chat(row: Row) -> Parsed:
    """A conversation whose last assistant turn is the demonstration; with ``rejected_response`` it is a pair."""
    turns = fields.messages(row["messages"], "messages")
    if turns[-1]["role"] != "assistant" or len(turns) < 2:
        raise Refused("not-assistant", "messages do not end with an assistant's answer to something")
    if "rejected_response" in row:
        return _two(turns[:-1], turns[-1:], row["rejected_response"])
    return Parsed(turns[:-1], (fields.response(turns[-1:], "messages"),))


def _sharegpt(row: Row) -> Parsed:
    return _two(fields.messages(row["conversations"], "conversations"), row.get("chosen"), row.get("rejected"))


def _images(row: Row) -> Parsed:
    """Two images and which won; ties hold no preference."""
    first = fields.number(row.get("label_0"), "label_0", 0, 1)
    images = (row.get("jpg_0"), row.get("jpg_1"))
    for i, image in enumerate(images):
        if image is None:
            raise Refused("missing-field", f"jpg_{i} is missing")
    if first is None or first == 0.5:
        raise Refused("all-tied", "label_0 says that neither image is preferred")
    return Parsed(fields.prompt(row.get("caption"), "caption"), images, ((0, 1),) if first > 0.5 else ((1, 0),))


# In this order: the first that fits is taken, so the narrower ones come first.
FORMATS = (
    Format("image pair", ("jpg_0", "jpg_1", "label_0", "caption"), _images),
    Format("chat with rejected response", ("messages", "rejected_response"), _chat),
    Format("conversation with chosen and rejected", ("conversations", "chosen", "rejected"), _sharegpt),
    Format(
        "ranking", ("prompt|instruction|context|question", "responses|completions", "scores|ranks|ratings"), _ranking
    ),
    Format(
        "ranking", ("prompt|instruction|context|question", "responses|completions"), _ranking, lists=("completions",)
    ),
    Format("one positive, many negatives", ("prompt|history", "positive|chosen", "negatives"), _negatives),
    Format("one positive, many negatives", ("prompt", "chosen", "rejected"), _negatives, lists=("rejected",)),
    Format("pair", ("prompt", "chosen", "rejected"), _pair),
    Format("pair with implicit prompt", ("chosen", "rejected"), _implicit),
    Format("unpaired feedback", ("prompt", "completion|response", "label"), _unpaired),
    Format("demonstration", ("prompt", "completion"), _demonstration),
    Format("demonstration", ("messages",), _chat),
)

_OWN = {name for form in FORMATS for entry in form.columns for name in entry.split("|")}
_OPTIONAL = {"id", "weight", "probability", "margin", "ranks", "scores"}


def detect(row: Row, where: str) -> Format:
    """The format of a row.

    Raises:
        UserError: none fits; names the columns that were found and the formats that are known.
    """
    for form in FORMATS:
        if form.fits(row.keys(), row):
            return form
    found = ", ".join(sorted(map(str, row))) or "none"
    guesses = [f"{name!r}: {nearest(str(name), _OWN)}" for name in row if name not in _OWN | _OPTIONAL]
    near = [guess for guess in guesses if "did you mean" in guess][:2]
    known = "; ".join(dict.fromkeys(", ".join(form.columns) for form in FORMATS))
    fix = (f"{' '.join(near)}\n  " if near else "") + f"known formats have the columns {known}"
    raise UserError(f"no known format has the columns {found}", where=where, fix=fix)


def content_id(parsed: Parsed) -> str:
    """An id from the content alone."""
    content = [parsed.prompt, parsed.responses, parsed.order, parsed.desirable]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return str(value)


def _edges(row: Row, order: Sequence[tuple[int, int]]) -> Iterator[Edge]:
    """Edges with the optional columns; a column holds one value, or one for each edge."""
    limits = {"weight": (0.0, float("inf")), "probability": (0.0, 1.0), "margin": (-float("inf"), float("inf"))}
    columns: dict[str, list[float | None]] = {}
    for name, (low, high) in limits.items():
        value = row.get(name)
        values = list(value) if isinstance(value, list) else [value] * len(order)
        if len(values) != len(order):
            raise Refused("ragged-lists", f"{name} has {len(values)} values for {len(order)} preferences")
        columns[name] = [fields.number(v, name, low, high) for v in values]
    for index, (winner, loser) in enumerate(order):
        weight = columns["weight"][index]
        yield Edge(
            winner, loser, 1.0 if weight is None else weight, columns["probability"][index], columns["margin"][index]
        )


def read(form: Format, row: Row, source: Source) -> Comparison:
    """The comparison of a row.

    Raises:
        Refused: the row cannot be used.
    """
    parsed = form.read(row)
    given = row.get("id")
    if given is not None and not isinstance(given, str | int):
        raise Refused("wrong-type", f"id is a {type(given).__name__}, not a text or a whole number")
    used = {name for entry in form.columns for name in entry.split("|")} | _OPTIONAL
    return Comparison(
        id=content_id(parsed) if given in (None, "") else str(given),
        prompt=parsed.prompt,
        responses=parsed.responses,
        edges=tuple(_edges(row, parsed.order)),
        desirable=parsed.desirable,
        scores=parsed.scores,
        extras={name: value for name, value in row.items() if name not in used and value is not None},
        source=source,
    )
