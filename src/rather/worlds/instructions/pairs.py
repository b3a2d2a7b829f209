"""Preference pairs from sampled answers, labelled by the checkers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any

from rather.worlds.instructions.scoring import score
from rather.worlds.instructions.text import words

_LONGEST_RUN = 4
_LONG, _LONG_DISTINCT = 12, 0.5  # a longer answer of so few distinct words goes round in circles
_ADDRESS = re.compile(r"https?:|www\.|@|\d{3}[-.\s]\d{3,4}|<\|")
# A small model strays; the embedded answers stay everyday and do not speak of themselves. Stems, matched at the start
# of a word.
_STRAY = re.compile(
    r"\b(?:sex|porn|nude|nudi|naked|erotic|rape|kill|murder|suicid|die[sd]?\b|death|dead|blood|gun|weapon|bomb|terror|"
    r"war\b|nazi|hitler|racis|slave|gay|lgbt|muslim|islam|jew(?:s|ish)?\b|christ|god\b|jesus|allah|drug|cocaine|"
    r"alcohol|beer|wine|whisk|vodka|drunk|cigar|smok|tobacco|cancer|disease|abus|violen|hate|stupid|idiot|damn|shit|"
    r"fuck|bitch|hell\b|smol|as an ai\b|an? (?:helpful )?ai (?:assistant|designed|language)|trump|biden|obama|"
    r"president|politic|republican|democrat)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """A sampled answer.

    Attributes:
        finished: whether it ended by itself.
        tokens: its length, with the end token.
    """

    text: str
    finished: bool
    tokens: int


def usable(text: str) -> bool:
    """Whether a text may be stored: it has a word, no web or mail address, no stray subject, no endless repetition.

    Blind to the constraints, so it favours neither side of a pair.
    """
    found = [word.casefold() for word in words(text)]
    repeated = len(found) >= _LONG and len(set(found)) < _LONG_DISTINCT * len(found)
    runs = repeated or any(len(set(found[i : i + _LONGEST_RUN])) == 1 for i in range(len(found) - _LONGEST_RUN + 1))
    letters = [char for char in text if char.isalpha()]
    foreign = sum(ord(char) >= 0x250 for char in letters)
    if not found or runs or foreign > 0 or "\ufffd" in text:
        return False
    return _ADDRESS.search(text) is None and _STRAY.search(text) is None


def pairs_of(record: Mapping[str, Any], answers: Sequence[Answer], limit: int = 2) -> list[dict[str, Any]]:
    """At most ``limit`` pairs for a prompt, no answer in two of them.

    The chosen answer ended by itself and obeys more constraints than the rejected one. Preferred are pairs whose
    chosen answer obeys all, whose rejected answer ended by itself too, and whose lengths are close.
    """
    distinct = {answer.text.strip(): answer for answer in answers if usable(answer.text)}
    checked = [(answer, score(record, answer.text)) for answer in distinct.values()]
    ranked = sorted(
        (
            (_cost(chosen, rejected), chosen[0].text, rejected[0].text, chosen, rejected)
            for chosen, rejected in product(checked, checked)
            if chosen[0].finished and sum(chosen[1].values()) > sum(rejected[1].values())
        ),
        key=lambda entry: entry[:3],
    )
    rows: list[dict[str, Any]] = []
    used: set[str] = set()
    for _, winner, loser, chosen, rejected in ranked:
        if len(rows) < limit and winner not in used and loser not in used:
            used |= {winner, loser}
            rows.append(_row(record, len(rows), chosen, rejected))
    return rows


_Checked = tuple[Answer, dict[str, bool]]


def _cost(chosen: _Checked, rejected: _Checked) -> float:
    lengths = sorted((chosen[0].tokens, rejected[0].tokens))
    apart = 1 - lengths[0] / lengths[1]
    shorter = chosen[0].tokens < rejected[0].tokens  # short answers obey more often: lean against length as a clue
    return 3.0 * (not all(chosen[1].values())) + 0.3 * (not rejected[0].finished) + apart + 0.4 * shorter


def _row(record: Mapping[str, Any], index: int, chosen: _Checked, rejected: _Checked) -> dict[str, Any]:
    return {
        "id": f"{record['id']}-{index}",
        "prompt": record["prompt"],
        "chosen": chosen[0].text.strip(),
        "rejected": rejected[0].text.strip(),
        "constraints": record["constraints"],
        "chosen_passes": sorted(name for name, obeyed in chosen[1].items() if obeyed),
        "rejected_passes": sorted(name for name, obeyed in rejected[1].items() if obeyed),
        "rejected_finished": rejected[0].finished,
    }


def describe_pairs(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Statistics of a set of pairs: their number, and how much length alone gives away."""
    lengths = [(len(words(row["chosen"])), len(words(row["rejected"]))) for row in rows]
    untied = [chosen > rejected for chosen, rejected in lengths if chosen != rejected]
    return {
        "pairs": len(rows),
        "prompts": len({row["id"].rsplit("-", 1)[0] for row in rows}),
        "chosen_obeys_all": fmean(len(row["chosen_passes"]) == len(row["constraints"]) for row in rows),
        "rejected_finished": fmean(row["rejected_finished"] for row in rows),
        "words_chosen": fmean(chosen for chosen, _ in lengths),
        "words_rejected": fmean(rejected for _, rejected in lengths),
        "longer_is_chosen": fmean(untied),
    }
