"""What is checked before weights are loaded: the data, the split, and whether the method can use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rather.data.types import Comparison
from rather.errors import UserError
from rather.methods.base import Method
from rather.training import split
from rather.training.config import TrainConfig

Data = str | Path | Sequence[Comparison]


@dataclass
class Examples:
    """Training and held-out comparisons.

    Attributes:
        summary: what a run's record says about them.
        warnings: sentences to be shown.
    """

    train: list[Comparison]
    held: list[Comparison]
    summary: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def read(source: Data, where: str, *, strict: bool) -> tuple[list[Comparison], dict[str, Any]]:
    """Comparisons and their summary, from a source by name or as they are.

    Raises:
        UserError: nothing usable is there.
    """
    if isinstance(source, str | Path):
        from rather.data.load import load

        loaded = load(source, strict=strict)
        comparisons = list(loaded)
        summary = {"source": str(source), **describe(loaded)}
    else:
        comparisons, summary = list(source), {"source": "given in Python"}
    if not comparisons:
        raise UserError(
            "holds no usable comparison", where=f"{where} {source}", fix="rather check DATA names each row and why"
        )
    split.check_ids(comparisons)
    return comparisons, {**summary, "n": len(comparisons)}


def describe(loaded: Any) -> dict[str, Any]:
    """Plain values of what a loader says about its data."""
    found: dict[str, Any] = {}
    summary = getattr(loaded, "summary", None)
    summary = summary() if callable(summary) else summary
    if isinstance(summary, Mapping):
        found |= dict(summary)
    elif summary is not None:
        found["summary"] = str(summary)
    refused = getattr(loaded, "refused", None)
    if refused is not None:
        found["refused"] = len(refused) if isinstance(refused, Sequence) else refused
    fingerprint = getattr(loaded, "fingerprint", None)
    if fingerprint is not None:
        found["fingerprint"] = fingerprint() if callable(fingerprint) else fingerprint
    return found


def examples(config: TrainConfig, method: Method, data: Data, held: Data | None) -> Examples:
    """Read, check, limit and split.

    Raises:
        UserError: see ``read`` and ``check_data``; or held-out data that is trained on.
    """
    train, summary = read(data, "--data", strict=config.strict)
    check_data(method, train, "--data")
    if config.limit is not None:
        train = train[: config.limit]
    warnings: list[str] = []
    if held is not None:
        evaluation, of_held = read(held, "--eval-data", strict=config.strict)
        check_data(method, evaluation, "--eval-data")
        evaluation = evaluation[: config.eval_limit]
        if warning := split.check_overlap(train, evaluation, strict=config.strict):
            warnings.append(warning)
        # Ids name cached scores and noise, so one id must not mean two comparisons across the splits either.
        split.check_ids([*train, *evaluation])
    else:
        train, evaluation = split.hold_out(train, config.eval_fraction, config.eval_limit)
        of_held = {"source": "held out by prompt", "n": len(evaluation)}
        if config.eval_fraction and not evaluation:
            warnings.append("there are too few prompts to hold any out: nothing is evaluated")
    if (config.early_stopping_patience or config.final_model == "best") and not evaluation:
        raise UserError("the best weights cannot be told without held-out data", where="--eval-data", fix="give some")
    train, evaluation = augmented(config, method, train), augmented(config, method, evaluation)
    if "auxiliary" in method.needs and (bare := sum(not one.auxiliary for one in train)):
        what = f"{method.name} has nothing to add to {bare} of {len(train)} training comparisons"
        warnings.append(f"{what}; rather explain {method.name} says what it makes of the data")
    found = {"train": {**summary, "n": len(train)}}
    if evaluation:
        found["eval"] = {**of_held, "n": len(evaluation)}
    return Examples(train, evaluation, found, warnings)


def augmented(config: TrainConfig, method: Method, comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with what the method adds to them (``Method.augment``)."""
    if method.augment is None or not comparisons:
        return list(comparisons)
    return method.augment(method.configure(config.method_options), comparisons, config.seed)


def rated(comparison: Comparison) -> bool:
    """Whether there are several answers, each with a score."""
    return 1 < len(comparison.scores) == len(comparison.responses)


def confident(comparison: Comparison) -> bool:
    """Whether it is known how sure each order of a comparison is."""
    return rated(comparison) or all(
        edge.probability is not None or edge.margin is not None for edge in comparison.edges
    )


def check_data(method: Method, comparisons: Sequence[Comparison], where: str) -> None:
    """Raises a ``UserError`` when the method needs something that a comparison does not have; names the first."""
    wanted = {
        "pairs": ("pairs of a preferred and a rejected answer", lambda c: bool(c.edges)),
        "lists": ("answers with an order", lambda c: bool(c.edges)),
        "marks": ("answers marked as desirable or not, or pairs", lambda c: bool(c.edges or c.desirable)),
        "targets": (
            "an answer to imitate",
            lambda c: bool(c.edges or any(c.desirable) or (c.responses and not c.desirable)),
        ),
        "scores": ("several answers with a score each", rated),
        "confidence": ("a score of each answer, or a probability or margin of each order", confident),
        "noise": ("the noise that each answer was generated from (column noise)", lambda c: "noise" in c.extras),
    }
    for need, (words, has) in wanted.items():
        if need not in method.needs:
            continue
        lacking = [c for c in comparisons if not has(c)]
        if lacking:
            first = lacking[0].source or f"id {lacking[0].id}"
            what = f"the method {method.name!r} needs {words}; {len(lacking)} of {len(comparisons)} examples have none"
            fix = f"first: {first}; `rather methods` shows what each method needs"
            raise UserError(what, where=where, fix=fix)


OTHER_MODEL = {
    "reward": "give --model reward:MODEL, or use rather fit-reward",
    "embedding": "give --model 'reward:MODEL?head=gpm', or use rather fit-reward --head gpm",
}
"""Which model has what a method needs, where it is a matter of the model's name."""


def check_policy(method: Method, kind: str, provides: frozenset[str]) -> None:
    """Raises a ``UserError`` when the method needs something that the policy's scores are not."""
    words = {
        "likelihood": "true log-probabilities, and a denoising error is only a bound of one",
        "tokens": "scores of single tokens",
        "auxiliary": "answers to prompts of its own making, and this model only scores what was compared",
        "reward": "the rewards of a reward model",
        "embedding": "a reward model that embeds answers",
        "rollouts": "a denoising model, which can be scored on roll-outs of its own",
    }
    for need, text in words.items():
        if need in method.needs and need not in provides:
            fix = f"the model is a {kind} model; {OTHER_MODEL.get(need, 'choose another method')}"
            raise UserError(f"the method {method.name!r} needs {text}", where=f"--method {method.name}", fix=fix)


def memory_mb(parameters: Mapping[str, int], reference: str, optimizer: str) -> float:
    """MiB of weights, gradients, optimizer state and a second copy of weights; without activations.

    Everything is float32; AdamW holds two numbers for each trained parameter, RMSprop one.
    """
    total, trained = parameters["total"], parameters["trained"]
    states = {"adamw": 2, "rmsprop": 1, "sgd": 0}[optimizer]
    copies = total if reference == "frozen" else trained if reference in ("ema", "sync") else 0
    return 4 * (total + trained * (1 + states) + copies) / 2**20
