"""Which curves the report shows, and what each means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rather.report.chart import Chart, Line
from rather.report.series import Series, combine, keys, series

SPLITS = {"train": "training", "eval": "held out"}


@dataclass(frozen=True)
class Spec:
    """A chart before its data: the curves are (label, possible metric names), the first name logged is drawn."""

    name: str
    title: str
    unit: str
    curves: Sequence[tuple[str, tuple[str, ...]]]
    note: str = ""
    baseline: tuple[float, str] | None = None
    bounds: tuple[float, float] | None = None


SPECS = (
    Spec("loss", "Loss", "mean over pairs", [("", ("loss",))]),
    Spec(
        "margin",
        "Reward margin",
        "reward",
        [("", ("rewards/margins",))],
        note="Implicit reward of the chosen minus that of the rejected answer.",
        baseline=(0.0, "no preference"),
    ),
    Spec(
        "logps",
        "Log-probability of answers",
        "nats per answer",
        [("chosen", ("logps/chosen",)), ("rejected", ("logps/rejected",))],
        note="Sum over the answer's tokens, mean over answers. Higher is more likely.",
    ),
    Spec(
        "rewards",
        "Implicit rewards",
        "reward",
        [("chosen", ("rewards/chosen",)), ("rejected", ("rewards/rejected",))],
        note="Beta times the log-ratio to the reference. Above zero: more likely than before training.",
        baseline=(0.0, "the reference"),
    ),
    Spec(
        "accuracy",
        "Ranking accuracy",
        "share of pairs",
        [("", ("rewards/accuracies",))],
        note="Share of pairs whose chosen answer has the higher implicit reward.",
        baseline=(0.5, "chance"),
        bounds=(0.0, 1.0),
    ),
    Spec(
        "kl",
        "Divergence from the reference",
        "nats per answer",
        [("", ("kl", "kl/estimate", "kl_estimate", "objective/kl"))],
        note="Estimate of the KL divergence; how far the policy has moved.",
    ),
    Spec("lr", "Learning rate", "per step", [("", ("lr", "learning_rate"))]),
    Spec("grad", "Gradient norm", "before clipping", [("", ("grad_norm",))]),
    Spec(
        "length",
        "Length of answers",
        "tokens",
        [
            ("chosen", ("length/chosen", "lengths/chosen", "tokens/chosen")),
            ("rejected", ("length/rejected", "lengths/rejected", "tokens/rejected")),
        ],
    ),
    Spec("sampled", "Length of sampled answers", "tokens", [("", ("length/sampled", "response_length", "length"))]),
)

OF_REWARD_MODELS = {
    "margin": {"note": "Score of the chosen over the rejected answer, in log-odds."},
    "rewards": {
        "title": "Rewards",
        "note": "The model's rewards (of embeddings, mean scores against the other answers), in log-odds. "
        "Their level means nothing across prompts.",
        "baseline": None,
    },
    "accuracy": {"note": "Share of pairs whose chosen answer has the higher score."},
}
"""What is said otherwise where rewards are the model's own and not implied by a policy."""

OF_DENOISERS = {
    "logps": {
        "title": "Scores of responses",
        "unit": "minus half a squared error",
        "note": "Denoising errors, summed over a latent's values, mean over responses: higher is a smaller error. They "
        "bound likelihoods, they are none.",
    },
    "length": {"title": "Size of responses", "unit": "latent values"},
}

OF_KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "reward": OF_REWARD_MODELS,
    "diffusion": OF_DENOISERS,
    "flow": OF_DENOISERS,
}

PLAIN = {
    *(
        "step",
        "epoch",
        "tokens",
        "tokens/computed",
        "tokens/needed",
        "flops",
        "seconds",
        "seconds_cpu",
        "tokens_per_second",
    ),
    *("tokens/second", "time", "timestamp", "n", "pairs"),
}
"""Keys that are not curves of their own (throughput is made of some)."""


def charts(metrics: Sequence[dict[str, Any]], kind: str = "") -> tuple[list[Chart], list[Chart]]:
    """The charts every run has, and those of whatever else it logged.

    Args:
        kind: of the model, for the words.
    """
    specs = [replace(spec, **OF_KINDS.get(kind, {}).get(spec.name, {})) for spec in SPECS]
    known = [chart for spec in specs if (chart := _chart(spec, metrics))]
    if throughput := _throughput(metrics):
        known.append(throughput)
    used = {name for spec in SPECS for _, names in spec.curves for name in names} | PLAIN
    other = []
    for index, key in enumerate(key for key in keys(metrics) if key not in used):
        chart = _chart(Spec(f"other-{index}", key, "", [("", (key,))]), metrics)
        if chart and any(_moves(line.series) for line in chart.lines):
            other.append(chart)
    return known, other


def _chart(spec: Spec, metrics: Sequence[dict[str, Any]]) -> Chart | None:
    lines = []
    several = len(spec.curves) > 1
    for position, (label, names) in enumerate(spec.curves):
        for offset, (split, words) in enumerate(SPLITS.items()):
            curve = next((found for name in names if (found := series(metrics, name, split))), None)
            if curve is None:
                continue
            style = 2 * position + offset if several else 4 * offset
            smooth = split == "train" and spec.name != "lr"
            lines.append(Line(f"{label}, {words}" if label else words, curve, style, smooth))
    if not lines:
        return None
    log = spec.bounds is None and spec.baseline is None and spec.name != "lr" and _spans(lines)
    note = f"{spec.note} Logarithmic axis; the mean is geometric.".strip() if log else spec.note
    return Chart(f"chart-{spec.name}", spec.title, spec.unit, lines, spec.baseline, spec.bounds, note, log)


def _spans(lines: Sequence[Line]) -> bool:
    """Whether one spike would flatten the rest: all values positive and the greatest over 50 times the median."""
    values = np.concatenate([line.series.values[line.series.finite] for line in lines])
    return bool(len(values) and values.min() > 0 and values.max() > 50 * np.median(values))


def _moves(curve: Series) -> bool:
    values = curve.values[curve.finite]
    return bool(curve.not_finite or (len(values) > 1 and values.max() > values.min()))


def _throughput(metrics: Sequence[dict[str, Any]]) -> Chart | None:
    """Tokens per second of each training step, as logged, or from tokens and seconds."""
    logged = (series(metrics, key, "train") for key in ("tokens_per_second", "tokens/second"))
    curve = next((found for found in logged if found), None)
    if curve is None:
        tokens, seconds = series(metrics, "tokens", "train"), series(metrics, "seconds", "train")
        if tokens is None or seconds is None:
            return None
        curve = combine([per_step(tokens), per_step(seconds)], "tokens_per_second", np.divide)
    if curve is None or not curve.finite.any():
        return None
    return Chart("chart-speed", "Throughput", "tokens per second", [Line(SPLITS["train"], curve, 0)])


def per_step(curve: Series) -> Series:
    """A running total as increments; a series that is not one is left as it is.

    A total never falls (but for a resumed run's clock, which starts anew) and ends well above where it starts.
    """
    values = curve.values
    rises = np.diff(values[np.isfinite(values)])
    if len(rises) < 3 or (rises <= 0).mean() > 0.05 or values[-1] < 3 * abs(values[0]):
        return curve
    gains = np.diff(values, prepend=np.nan)
    gains[0] = values[0] if curve.steps[0] <= 1 else np.nan
    gains[gains <= 0] = np.nan
    return Series(curve.key, curve.split, curve.steps, gains)
