"""Lists, titles, tables and JSON."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from rather.worlds.instructions.checkers.base import LISTS, OPEN, Args, Checker, Kind, Split, Topic, no_args
from rather.worlds.instructions.text import lines, words

_BULLET = re.compile(r"[-*]\s+\S")
_NUMBERED = re.compile(r"(\d+)[.)]\s+\S")
_WHOLE = frozenset({"structure", "words", "sentences", "start", "end", "comma", "language", "colon", "keyword"})
_KEYS = {
    "train": (("name", "reason"), ("title", "text"), ("topic", "tip"), ("question", "answer")),
    "heldout": (("item", "use"), ("subject", "comment")),
}


def _bullets(text: str) -> int:
    return sum(_BULLET.match(line) is not None for line in lines(text))


def _numbers(text: str) -> list[int]:
    return [int(found.group(1)) for line in lines(text) if (found := _NUMBERED.match(line))]


def _items(low: int, high: int) -> Any:
    def sample(rng: random.Random, split: Split, topic: Topic) -> dict[str, Any]:
        return {"n": rng.randint(low, high)}

    return sample


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_object(a: Args, text: str) -> bool:
    value = _json(text)
    return isinstance(value, dict) and set(value) == set(a["keys"])


def _json_list(a: Args, text: str) -> bool:
    value = _json(text)
    return isinstance(value, list) and len(value) == a["n"] and all(isinstance(item, str) for item in value)


def _comma_list(a: Args, text: str) -> bool:
    if len(lines(text)) != 1:
        return False
    items = text.strip().rstrip(".").split(",")
    return len(items) == a["n"] and all(0 < len(words(item)) <= 4 for item in items)


def _bold_title(a: Args, text: str) -> bool:
    found = lines(text)
    return len(found) > 1 and re.fullmatch(r"\*\*[^*]*\w[^*]*\*\*", found[0]) is not None


def _heading(a: Args, text: str) -> bool:
    return re.match(r"#\s+\S", text.strip()) is not None


def _table(a: Args, text: str) -> bool:
    rows = [line for line in lines(text) if line.count("|") >= 2]
    return len(rows) >= 3 and re.fullmatch(r"[|:\-\s]*-[|:\-\s]*", rows[1]) is not None


CHECKERS = (
    Checker(
        name="bullets",
        check=lambda a, text: _bullets(text) == a["n"],
        sample=_items(2, 4),
        train=(
            'Use exactly {n} bullet points, each on a line that starts with "- " or "* ".',
            'Your answer must have exactly {n} bullet points (lines that start with "- " or "* ").',
        ),
        heldout=('Give exactly {n} bullet points, where a bullet point is a line that starts with "- " or "* ".',),
        passing=lambda a: "Here:\n" + "\n".join(["- one thing"] * a["n"]),
        failing=lambda a: "\n".join(["* one thing"] * (a["n"] - 1)),
        kinds=LISTS,
        slots=frozenset({"structure", "sentences", "end", "start"}),
        weight=1.5,
    ),
    Checker(
        name="numbered",
        check=lambda a, text: _numbers(text) == list(range(1, a["n"] + 1)),
        sample=_items(2, 4),
        train=(
            'Write a numbered list with exactly {n} items ("1.", "2." and so on, each on its own line).',
            'Number the parts of your answer: exactly {n} lines that start with "1.", "2." and so on.',
        ),
        heldout=('The answer has to be a numbered list ("1.", "2.", ..., one item per line) of exactly {n} items.',),
        passing=lambda a: "\n".join(f"{i}. thing" for i in range(1, a["n"] + 1)),
        failing=lambda a: "\n".join(f"{i}. thing" for i in range(1, a["n"] + 2)),
        kinds=LISTS,
        slots=frozenset({"structure", "sentences", "end", "start", "digit"}),
        weight=2.5,
    ),
    Checker(
        name="comma_list",
        check=_comma_list,
        sample=_items(3, 5),
        train=(
            "Answer with one line of exactly {n} items separated by commas, each of at most four words.",
            "Give exactly {n} items on a single line, separated by commas, with no more than four words in each.",
        ),
        heldout=(
            "Reply with a single line: exactly {n} items with commas between them, none longer than four words.",
        ),
        passing=lambda a: ", ".join(["a red thing"] * a["n"]) + ".",
        failing=lambda a: ", ".join(["a red thing"] * (a["n"] + 1)),
        kinds=frozenset[Kind]({"list"}),
        slots=frozenset({"structure", "comma", "words", "sentences", "start", "end"}),
        required=lambda a: ",",
        weight=1.2,
    ),
    Checker(
        name="no_list",
        check=lambda a, text: bool(words(text)) and _bullets(text) == 0 and not _numbers(text),
        sample=no_args,
        train=(
            "Do not use bullet points or a numbered list.",
            'Write running text: no line may start with a bullet ("- " or "* ") or with a number such as "1."',
        ),
        heldout=('Neither bullet points ("- " or "* ") nor numbered lines ("1.", "2.") are allowed.',),
        passing=lambda a: "It works - mostly.",
        failing=lambda a: "So:\n 1. It works.",
        kinds=frozenset[Kind]({"list"}),
        slots=frozenset({"structure"}),
        weight=2.0,
    ),
    Checker(
        name="angle_title",
        check=lambda a, text: re.search(r"<<[^<>\n]*\w[^<>\n]*>>", text) is not None,
        sample=no_args,
        train=("Include a title in double angle brackets, such as <<my title>>.",),
        heldout=("Give the answer a title that stands between << and >>.",),
        passing=lambda a: "<<A Title>>\nIt works.",
        failing=lambda a: "<A Title> It works.",
        kinds=OPEN,
        slots=frozenset({"structure", "start"}),
        weight=0.6,
    ),
    Checker(
        name="bold_title",
        check=_bold_title,
        sample=no_args,
        train=("Begin with a title in bold on a line of its own, like this: **Title**",),
        heldout=("The first line has to be a bold title (**Title**) and nothing else.",),
        passing=lambda a: "**A Title**\n\nIt works.",
        failing=lambda a: "**A Title** It works.",
        kinds=OPEN,
        slots=frozenset({"structure", "start", "sentences", "words"}),
        weight=0.5,
    ),
    Checker(
        name="heading",
        check=_heading,
        sample=no_args,
        train=('Begin with a Markdown heading, a line that starts with "# ".',),
        heldout=('Let the first line be a Markdown heading (it starts with "# ").',),
        passing=lambda a: "# A Title\nIt works.",
        failing=lambda a: "It works.\n# A Title",
        kinds=OPEN,
        slots=frozenset({"structure", "start", "sentences", "words"}),
        weight=0.6,
    ),
    Checker(
        name="table",
        check=_table,
        sample=no_args,
        train=(
            "Answer with a Markdown table: a header row, a row of dashes, and further rows, with | between cells.",
        ),
        heldout=(
            "Present it as a Markdown table (header row, row of dashes, at least one more row, cells split by |).",
        ),
        passing=lambda a: "| a | b |\n|---|---|\n| 1 | 2 |",
        failing=lambda a: "| a | b |\n| 1 | 2 |",
        kinds=frozenset[Kind]({"list"}),
        slots=_WHOLE,
        weight=0.3,
    ),
    Checker(
        name="placeholders",
        check=lambda a, text: len(re.findall(r"\[[^\[\]\n]*\w[^\[\]\n]*\]", text)) >= a["n"],
        sample=_items(1, 2),
        train=("Include at least {n} placeholder{n_s} in square brackets, such as [name].",),
        heldout=("Somewhere in it, put {n} or more placeholders in square brackets (for example [place]).",),
        passing=lambda a: "It works, [name]" * a["n"],
        failing=lambda a: "It works, [name]" * (a["n"] - 1) + " []",
        kinds=OPEN,
        slots=frozenset({"structure"}),
        weight=0.8,
    ),
    Checker(
        name="json_object",
        check=_json_object,
        sample=lambda rng, split, topic: {"keys": list(rng.choice(_KEYS[split]))},
        train=("Answer with a JSON object that has exactly the keys {keys}, and nothing else.",),
        heldout=("The whole answer must be one JSON object whose only keys are {keys}.",),
        passing=lambda a: json.dumps(dict.fromkeys(a["keys"], "x")),
        failing=lambda a: "Here: " + json.dumps(dict.fromkeys(a["keys"], "x")),
        kinds=OPEN,
        slots=_WHOLE,
        required=lambda a: '{":,"}',
        weight=0.4,
    ),
    Checker(
        name="json_list",
        check=_json_list,
        sample=_items(2, 4),
        train=('Answer with a JSON list of exactly {n} strings, such as ["a", "b"], and nothing else.',),
        heldout=("The whole answer must be a JSON array that holds exactly {n} strings.",),
        passing=lambda a: json.dumps(["x"] * a["n"]),
        failing=lambda a: json.dumps([1] * a["n"]),
        kinds=frozenset[Kind]({"list"}),
        slots=_WHOLE,
        required=lambda a: '[",]',
        weight=0.4,
    ),
)
