"""``rather`` and TRL's DPOTrainer side by side: same pairs, tokens, loss, optimizer and batches, in turns.

    python -m benchmarks.peers --pairs pairs.jsonl

Every contender runs in a process of its own, once in each repeat, in an order that changes from repeat to repeat.
Ratios are taken within a repeat. The command fails when contenders do not compute the same: their losses, and the
log-probability that the reference gives each answer. In bfloat16 the losses of random tokens are not judged: an
answer's log-probability, far below zero, is rounded by more than a step changes it, and a step of one list has one
preferred answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import command, compare, tokens
from benchmarks.cases import CASES, Case
from benchmarks.environment import precision
from benchmarks.execute import Runner
from benchmarks.job import Job
from benchmarks.models import folder_of
from rather.errors import UserError, nearest

TOLERANCE = {"bf16": 1e-2, "fp32": 1e-3}
"""How far the losses of two contenders may differ: in any step in float32, on average over the steps in bfloat16."""

LOGPS = {"bf16": (1.0, 0.02), "fp32": (0.01, 1e-4)}
"""How far the reference's log-probability of an answer may differ: nats, and a share of it."""

WARMUP = 1
ALIKE = 1
"""Measured steps of a synthetic case: its steps are all of one shape. For the same reason it runs half as often."""


def options() -> argparse.ArgumentParser:
    found = command.parser("peers", __doc__)
    found.formatter_class = argparse.RawDescriptionHelpFormatter
    found.add_argument("--model", default="smollm2-135m", help="anything rather opens, or random:SIZE")
    found.add_argument("--tokenizer", default="smollm2-135m", help="whose tokenizer a random model gets")
    found.add_argument("--pairs", default="world:instructions", help="real pairs: a file, a data set or a world")
    found.add_argument("--max-length", type=int, default=512, help="longest prompt plus answer of real pairs")
    found.add_argument("--cases", nargs="+", default=[case.name for case in CASES], metavar="CASE")
    found.add_argument("--repeats", type=int, default=2, help="how often each contender runs on real pairs")
    found.add_argument("--steps", type=int, default=2, help="measured steps of a run on real pairs")
    found.add_argument("--peer-batch", type=int, help="most pairs in one forward pass of TRL; default: the whole step")
    return found


def measure(asked: argparse.Namespace, runner: Runner, scratch: Path) -> dict[str, Any]:
    """Run the cases; see the module."""
    known = {case.name: case for case in CASES}
    for name in asked.cases:
        if name not in known:
            raise UserError(f"there is no case {name!r}", where="--cases", fix=nearest(name, known))
    folder = folder_of(asked.model, scratch, tokenizer=asked.tokenizer)
    dtype = precision(asked.precision)
    cases = [_run(known[name], asked, folder, dtype, runner, scratch) for name in asked.cases]
    problems = [f"{case['name']}: {text}" for case in cases for text in _problems(case, dtype)]
    return {
        "model": command.shown(asked.model),
        "pairs": command.shown(asked.pairs),
        "max_length": asked.max_length,
        "precision": dtype,
        "tolerance": TOLERANCE[dtype],
        "warmup": WARMUP,
        "cases": cases,
        "failed": f"contenders do not compute the same: {'; '.join(problems)}" if problems else None,
    }


def _run(
    case: Case, asked: argparse.Namespace, folder: str, dtype: Any, runner: Runner, scratch: Path
) -> dict[str, Any]:
    from rather.training.optimisation import auto_learning_rate

    steps = asked.steps if case.real else min(asked.steps, ALIKE)
    repeats = asked.repeats if case.real else max(1, asked.repeats // 2)
    rows = _tokens(case, asked, folder, case.batch * (WARMUP + steps))
    path = tokens.save(scratch / f"{case.name}.json", rows)
    contenders = case.contenders
    print(f"{case.name}: {case.title}", flush=True)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        turn = repeat % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            job = Job(
                contender=contender,
                model=folder,
                tokens=str(path),
                batch=case.batch,
                steps=steps,
                warmup=WARMUP,
                precision=dtype,
                lora=case.lora,
                learning_rate=auto_learning_rate(case.lora, 0),
                peer_batch=asked.peer_batch or case.peer_batch,
                scoring=case.name == "full" and contender in ("rather", "trl best"),
                settings={"gradient_checkpointing": True} if contender == "rather lean" else {},
                seed=asked.seed,
            )
            found[contender].append(runner(job))
    return {
        "name": case.name,
        "title": case.title,
        "batch": case.batch,
        "data": tokens.summary(rows),
        "results": found,
        "real": case.real,
        "loss_difference": {peer: compare.loss_difference(found["rather"], found[peer]) for peer in case.peers},
        "logps_difference": {peer: compare.logps_difference(found["rather"], found[peer]) for peer in case.peers},
    }


def _problems(case: dict[str, Any], dtype: str) -> list[str]:
    """What contenders disagree about, in words."""
    found = []
    ours = case["results"]["rather"]
    for peer, off in case["loss_difference"].items():
        theirs = case["results"][peer]
        judged = off if dtype == "fp32" else compare.mean_loss_difference(ours, theirs) if case["real"] else 0.0
        if judged > TOLERANCE[dtype]:
            found.append(f"the loss of {peer} differs by {judged:.2g}, more than {TOLERANCE[dtype]}")
        nats, share = LOGPS[dtype]
        beyond = compare.logps_difference(ours, theirs, share)
        if beyond is not None and beyond > nats:
            off = case["logps_difference"][peer]
            found.append(f"a reference log-probability of {peer} differs by {off:.2g} nats")
    return found


def _tokens(case: Case, asked: argparse.Namespace, folder: str, number: int) -> list[tokens.Ids]:
    from rather.policies.models import load_tokenizer

    tokenizer = load_tokenizer(folder)
    if case.real:
        return tokens.real(asked.pairs, tokenizer, number=number, max_length=asked.max_length, seed=asked.seed)
    return tokens.synthetic(
        tokens.usual_ids(tokenizer),
        number=number,
        prompt=case.prompt,
        answer=case.answer,
        negatives=case.negatives,
        seed=asked.seed,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main("peers", options(), measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
