"""The formats of preference data: told apart by their columns, each read into a ``Comparison``."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from rather.data import fields, images, lists, pairs, single
from rather.data.identity import content_id
from rather.data.parsed import PROMPT, Parsed, Row, column
from rather.data.refusal import Refused
from rather.data.types import Comparison, Edge, Source
from rather.errors import UserError, nearest

EdgeRule = Literal["all", "best_vs_rest"]


@dataclass(frozen=True)
class Format:
    """A format: the columns that tell it, and how a row is read.

    Attributes:
        columns: all of these are there; one of the alternatives where an entry has several, as ``a|b``.
        when: what the values have to be, where columns alone do not tell.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[Row], Parsed]
    when: Callable[[Row], bool] | None = None
    images: bool = False

    def missing(self, columns: Collection[str]) -> list[str]:
        return [entry for entry in self.columns if not any(name in columns for name in entry.split("|"))]

    def fits(self, row: Row) -> bool:
        return not self.missing(row.keys()) and (self.when is None or self.when(row))


def _images_in(row: Row) -> bool:
    return images.is_image(row.get("chosen")) and images.is_image(row.get("rejected"))


def _bare(row: Row) -> bool:
    """A prompt and nothing that looks like an answer: a row of pairs that lost one, or misspells it, is no prompt."""
    return not (_ANSWERS & row.keys()) and not any(_misspelt(str(name)) for name in row)


@cache
def _misspelt(name: str) -> bool:
    likely = ("chosen", "rejected", "completion", "completions", "response", "responses")
    return bool(difflib.get_close_matches(name.lower(), likely, n=1, cutoff=0.8))


# In this order: the first that fits is taken, so the narrower ones come first.
FORMATS = (
    Format("image pair", ("jpg_0", "jpg_1", "label_0", "caption|prompt"), images.judged, images=True),
    Format("image pair", ("prompt|caption", "chosen", "rejected"), images.chosen, _images_in, images=True),
    Format(
        "image pair",
        ("prompt|caption", "chosen_image|image_chosen", "rejected_image|image_rejected"),
        images.chosen,
        images=True,
    ),
    Format("conversation with chosen and rejected", ("conversations", "chosen", "rejected"), pairs.conversation),
    Format("chat with rejected response", ("messages", "rejected_response|rejected_messages"), pairs.chat_rejected),
    Format(
        "one positive, many negatives",
        (PROMPT, pairs.CHOSEN, pairs.REJECTED),
        lists.negatives,
        lambda row: pairs.is_list(row.get("rejected")),
    ),
    Format("one positive, many negatives", (f"{PROMPT}|history", "positive|chosen", "negatives"), lists.negatives),
    Format(
        "pair",
        (PROMPT, pairs.CHOSEN, pairs.REJECTED),
        pairs.explicit,
        lambda row: not pairs.is_list(row.get("rejected")),
    ),
    Format("ranking", (PROMPT, lists.RESPONSES, f"{lists.SCORES}|{lists.RANKS}"), lists.ranking),
    Format("ranking", (PROMPT, "completions|responses"), lists.ranking, lambda row: lists.is_rated(_completions(row))),
    Format("stepwise feedback", (PROMPT, "completions", "labels"), single.stepwise),
    Format("pair with implicit prompt", ("chosen", "rejected"), pairs.implicit),
    Format("unpaired feedback", (PROMPT, single.COMPLETION, "label"), single.unpaired),
    Format("unpaired feedback", ("messages", "label"), single.marked_chat),
    Format("demonstration", (PROMPT, single.COMPLETION), single.demonstration),
    Format("demonstration", ("messages|conversations",), single.chat),
    Format("prompt only", ("prompt",), single.prompt_only, _bare),
    Format("plain text", ("text",), single.text, _bare),
)

_OWN = {name for form in FORMATS for entry in form.columns for name in entry.split("|")}
_ANSWERS = _OWN - set(PROMPT.split("|")) - {"caption", "text", "history"}
_OPTIONAL = {"id", "weight", "probability", "margin"}
_REDUNDANT = {"messages", "conversations"}  # beside a pair these repeat one of its sides


def _completions(row: Row) -> Any:
    return row.get("completions") if row.get("completions") is not None else row.get("responses")


def detect(row: Row) -> Format | None:
    """The first format that fits a row."""
    return next((form for form in FORMATS if form.fits(row)), None)


def usual(rows: Iterable[Row], where: str) -> Format:
    """The format that most of the rows have.

    Raises:
        UserError: none has any; names the columns that were found and the formats that are known.
    """
    rows = list(rows)
    found = Counter(form for row in rows if (form := detect(row)) is not None)
    if found:
        return found.most_common(1)[0][0]
    columns = sorted({str(name) for row in rows for name in row})
    guesses = [f"{name!r}: {nearest(name, _OWN)}" for name in columns if name not in _OWN | _OPTIONAL]
    near = "; ".join([guess for guess in guesses if "did you mean" in guess][:3])
    known = "\n    ".join(f"{form.name}: {', '.join(form.columns)}" for form in FORMATS)
    fix = (f"{near}\n  " if near else "") + f"rename columns to those of a known format:\n    {known}"
    raise UserError(f"no known format has the columns {', '.join(columns) or '(none)'}", where=where, fix=fix)


def for_row(expected: Format, row: Row) -> Format:
    """The format to read a row by: the file's own, or one with the same columns and other values in them.

    Raises:
        Refused: the row lacks a column of the file's format. It is not read as anything else, even where it could be:
            a pair that lost its prompt must not pass for one with an implicit prompt.
    """
    if expected.fits(row):
        return expected
    lacking = expected.missing(row.keys())
    other = detect(row)
    if not lacking and other is not None:
        return other
    if other is not None:
        what = f"this row is in the format '{other.name}', the file is in the format '{expected.name}'"
        raise Refused("mixed-formats", f"{what}: {', '.join(lacking)} missing")
    what = f"{', '.join(lacking)} missing" if lacking else "the columns do not hold what the rows before hold"
    raise Refused("missing-field" if lacking else "wrong-type", f"{what} (format '{expected.name}')")


def _edges(row: Row, parsed: Parsed, rule: EdgeRule) -> tuple[Edge, ...]:
    """Edges with the optional columns, which hold one value, or one for each edge; margins also from scores."""
    limits = {"weight": (0.0, float("inf")), "probability": (0.0, 1.0), "margin": (-float("inf"), float("inf"))}
    columns: dict[str, list[float | None]] = {}
    for name, (low, high) in limits.items():
        value = row.get(name)
        values = list(value) if isinstance(value, list) else [value] * len(parsed.order)
        if len(values) != len(parsed.order):
            raise Refused("ragged-lists", f"{name} has {len(values)} values for {len(parsed.order)} preferences")
        columns[name] = [fields.number(v, name, low, high) for v in values]
    losers = {loser for _, loser in parsed.order}
    edges = []
    for index, (winner, loser) in enumerate(parsed.order):
        weight, margin = columns["weight"][index], columns["margin"][index]
        if margin is None and parsed.scores and parsed.scores[winner] >= parsed.scores[loser]:
            margin = parsed.scores[winner] - parsed.scores[loser]
        if rule == "all" or winner not in losers:
            edges.append(Edge(winner, loser, 1.0 if weight is None else weight, columns["probability"][index], margin))
    return tuple(edges)


def _used(form: Format, row: Row, parsed: Parsed) -> set[str]:
    named = {name for entry in form.columns if (name := column(row, entry)) is not None}
    scored = {
        name for name in (column(row, lists.SCORES), column(row, lists.RANKS)) if name and form.name == "ranking"
    }
    return named | scored | parsed.used | _OPTIONAL | _REDUNDANT


def read(form: Format, row: Row, source: Source, rule: EdgeRule = "all") -> tuple[Comparison, Sequence[str]]:
    """The comparison of a row, and notes on what was inferred.

    Raises:
        Refused: the row cannot be used.
    """
    parsed = form.read(row)
    given = row.get("id")
    if given is not None and (isinstance(given, bool) or not isinstance(given, str | int)):
        raise Refused("wrong-type", f"id is a {type(given).__name__}, not a text or a whole number")
    if isinstance(given, str):
        fields.unicode(given, "id")
    used = _used(form, row, parsed)
    comparison = Comparison(
        id="",
        prompt=parsed.prompt,
        responses=parsed.responses,
        edges=_edges(row, parsed, rule),
        desirable=parsed.desirable,
        scores=parsed.scores,
        extras={name: value for name, value in row.items() if name not in used and value is not None},
        source=source,
    )
    comparison = replace(comparison, id=content_id(comparison) if given in (None, "") else str(given))
    return images.locate(comparison) if form.images else comparison, parsed.notes
