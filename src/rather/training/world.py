"""A world of text whose answers a program checks: its held-out prompts, answered before and after training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rather.policies.base import Policy
from rather.training.config import TrainConfig
from rather.training.record import write_text
from rather.worlds.catalog import AnswerCheck, check_answers

When = Literal["before", "after"]

SINGLE = "single checks"
"""Every constraint of every answer, counted one by one."""


def world_of(policy: Policy, config: TrainConfig) -> AnswerCheck | None:
    """The check of the world that the (held-out) data names, for a policy that answers in text."""
    if not hasattr(policy, "tokenizer"):
        return None
    named = [name for name in (config.eval_data, config.data) if isinstance(name, str)]
    return next((found for found in map(check_answers, named) if found is not None), None)


def check(policy: Policy, world: AnswerCheck, output: Path, when: When) -> dict[str, np.ndarray]:
    """Answer every prompt greedily and check the answers; they are kept in ``samples.jsonl``.

    Returns:
        [N] booleans by check; ``pass_rate``, whether an answer obeys all its constraints, comes first, then
        ``single checks``, each constraint of each prompt, where prompts have several; the others hold those of the N
        prompts that have the constraint. What a world counts inside answers has one entry for each thing that was
        counted.
    """
    answers = _answers(policy, world)
    checks = [world.check(index, answer) for index, answer in enumerate(answers)]
    _keep(world, output / "samples.jsonl", when, answers, checks)
    columns: dict[str, list[bool]] = {"pass_rate": [all(row.values()) for row in checks]}
    if any(len(row) > 1 for row in checks):
        columns[SINGLE] = [obeyed for row in checks for obeyed in row.values()]
    for row in checks:
        for name, obeyed in sorted(row.items()):
            columns.setdefault(name, []).append(obeyed)
    for index, answer in enumerate(answers if world.counts else ()):
        for name, (right, total) in world.counts(index, answer).items() if world.counts else ():
            if total:
                columns.setdefault(name, []).extend([True] * right + [False] * (total - right))
    return {name: np.asarray(values) for name, values in columns.items()}


def _answers(policy: Policy, world: AnswerCheck) -> list[str]:
    from rather.sampling.generate import generate

    own: Any = policy
    prompts = [[dict(message) for message in prompt] for prompt in world.prompts]
    with own.sampling():
        found = generate(
            own.model, own.tokenizer, prompts, max_new_tokens=world.max_tokens, temperature=0.0, progress=True
        )
    return [given[0].text for given in found]


def _keep(world: AnswerCheck, path: Path, when: When, answers: list[str], checks: list[dict[str, bool]]) -> None:
    """Rows of ``samples.jsonl``; in the end, prompts whose verdict changed come first."""
    if when == "before":
        rows = [
            {"prompt": list(prompt), "before": answer, "after": None, "checks": {"before": found}}
            for prompt, answer, found in zip(world.prompts, answers, checks, strict=True)
        ]
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        for row, answer, found in zip(rows, answers, checks, strict=True):
            row["after"] = answer
            row["checks"]["after"] = found
        rows.sort(key=lambda row: all(row["checks"]["before"].values()) == all(row["checks"]["after"].values()))
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, default=dict) + "\n" for row in rows))
