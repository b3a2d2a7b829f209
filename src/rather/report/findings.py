"""What the numbers say in words: the verdict and the notices.

Every sentence is computed from the run's numbers; none of them hides a poor result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rather.report import results
from rather.report.numbers import number, percent, shown
from rather.report.run_folder import RunFolder
from rather.report.series import keys, series

Tone = Literal["good", "poor", "plain"]


@dataclass(frozen=True)
class Notice:
    """Something to know, why it may be so, and what to try."""

    title: str
    text: str
    tries: tuple[str, ...] = ()
    tone: Tone = "plain"


@dataclass(frozen=True)
class Verdict:
    """The headline: one sentence each on ranking and on the world's checks."""

    sentences: tuple[str, ...]
    tone: Tone


def verdict(run: RunFolder, table: list[results.Row]) -> Verdict:
    """What was learned, by held-out ranking accuracy and by the world's pass rate, each before and after."""
    ranked, world = results.ranking(table), results.world(table)
    if not (ranked and ranked.after) and not (world and world.after):
        return Verdict((_without_evaluation(run),), "plain")
    sentences: list[str] = []
    tones: list[Tone] = []
    pairs = results.count(run.evaluation)
    if ranked and ranked.after:
        tone, reading = _reading(ranked, chance=0.5)
        over = f" over {pairs:,} pairs" if pairs else ""
        sentences.append(f"Held-out ranking accuracy {_course(ranked)}{over}. {reading}")
        tones.append(tone)
    if world and world.after:
        tone, reading = _reading(world)
        sentences.append(f"World pass rate {_course(world)}. {reading}".strip())
        tones.append(tone)
    tone = "poor" if "poor" in tones else "good" if "good" in tones else "plain"
    return Verdict(tuple(sentences), tone)


def _course(row: results.Row) -> str:
    """``went from 50.0% to 73.5% (67.0 to 79.2%)``, or only where it stands."""
    assert row.after is not None
    return f"went from {_rate(row.before)} to {_rate(row.after)}" if row.before else f"is {_rate(row.after)}"


def _rate(value: results.Estimate) -> str:
    interval = value.interval(share=True) if value.low != value.high else ""
    return f"{value.text(share=True)} ({interval})" if interval else value.text(share=True)


def _reading(row: results.Row, chance: float | None = None) -> tuple[Tone, str]:
    """Better, worse or undecided. An untrained policy ranks by chance, so ranking is held against chance too."""
    if row.apart:
        of = "interval of the change, answer by answer" if row.paired else "intervals"
        better = row.apart > 0
        return ("good" if better else "poor"), f"{'Better' if better else 'Worse'}, beyond the 95% {of}."
    if row.before is not None and row.paired is not None:
        return "plain", "The 95% interval of the change, answer by answer, holds zero: no clear change."
    if row.before is not None:
        return "plain", "The 95% intervals overlap: no clear change."
    after = row.after
    if chance is not None and after and after.low is not None and after.high is not None:
        if after.low > chance:
            return "good", "Better than chance, beyond the 95% interval."
        if after.high < chance:
            return "poor", "Worse than chance, beyond the 95% interval."
        return "plain", "Not distinguishable from chance."
    return "plain", ""


def _without_evaluation(run: RunFolder) -> str:
    steps = _last_step(run)
    if steps is None:
        return "Nothing has been logged yet, so there is nothing to conclude."
    curve = series(run.metrics, "rewards/accuracies", "eval") or series(run.metrics, "rewards/accuracies", "train")
    text = f"No held-out evaluation yet ({steps:,} step{'' if steps == 1 else 's'} logged)"
    if curve is not None and (ends := curve.ends()):
        where = "held-out" if curve.split == "eval" else "training"
        text += f"; {where} ranking accuracy stands at {percent(ends[1])} at the end"
    if run.status != "finished":
        return f"{text}."
    return f"{text}. Run `rather evaluate` on this folder for a before/after comparison."


def _last_step(run: RunFolder) -> int | None:
    steps = [row["step"] for row in run.metrics if isinstance(row.get("step"), int)]
    return max(steps) if steps else None


def notices(run: RunFolder, table: list[results.Row]) -> list[Notice]:
    """Everything worth a warning, most important first."""
    found = [
        _state(run),
        _not_finite(run),
        _displacement(run, table),
        _overfit(run),
        _length(table),
        _cut(run),
        _length_bias(run),
        *(Notice("Reported by the run", str(warning)) for warning in _listed(run.run.get("warnings"))),
        *(Notice("Not readable", problem, tone="poor") for problem in run.problems),
    ]
    return [notice for notice in found if notice]


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _state(run: RunFolder) -> Notice | None:
    steps = _last_step(run)
    where = f"after step {steps:,}" if steps else "before the first logged step"
    again = f"`rather train --config {run.path / 'config.yaml'} --resume`"
    if run.status == "interrupted":
        return Notice("The run was interrupted", f"It stopped {where}. To go on from the last checkpoint:", (again,))
    if run.status == "failed":
        reason = str(run.run.get("error") or "No reason was written down.")
        if (run.path / "nonfinite.json").is_file():
            reason += f" The comparisons are in {run.path / 'nonfinite.json'}."
        return Notice("The run failed", f"It stopped {where}. {reason}", tone="poor")
    if run.status == "running":
        text = f"This report was written while the run was at or {where}. If no process is left, resume it:"
        return Notice("The run is not finished", text, (again,))
    return None


def _not_finite(run: RunFolder) -> Notice | None:
    bad = []
    for key in keys(run.metrics):
        for split in ("train", "eval"):
            curve = series(run.metrics, key, split)
            if curve is not None and curve.not_finite and key not in ("epoch", "step"):
                first = curve.steps[~curve.finite][0]
                bad.append(f"{key} ({split}): {curve.not_finite} of {len(curve.values)}, first at step {first:.0f}")
    if not bad:
        return None
    text = "Values that are NaN or infinite are left out of the curves and marked by a cross on the axis. "
    tries = ("a lower learning rate", "gradient clipping", "fp32 instead of bf16", "looking at the rows the run named")
    return Notice("Some metrics are not finite", text + "; ".join(bad) + ".", tries, "poor")


def _displacement(run: RunFolder, table: list[results.Row]) -> Notice | None:
    """The chosen answers lost likelihood while the margin grew (likelihood displacement)."""
    course = _held_out_course(table) or _training_course(run)
    if course is None:
        return None
    where, fall, growth = course
    if not (fall[1] < fall[0] - max(0.5, 0.005 * abs(fall[0])) and growth[1] > growth[0]):
        return None
    options = run.method.get("options")
    sft = isinstance(options, dict) and "sft" in options
    tries = (
        "an SFT term on the chosen answers: `--sft 0.1`" if sft else "an SFT term on the chosen answers",
        "a larger beta, a lower learning rate or fewer epochs, so that the policy stays nearer to the reference",
        "SFT on the chosen answers before preference training, when they are far from what the model would say",
        "leaving out pairs whose two answers are nearly alike: they push the chosen answer down the most",
    )
    text = (
        f"{where} mean log-probability of chosen answers went from {shown(fall[0])} to {shown(fall[1])} while the "
        f"reward margin went from {shown(growth[0])} to {shown(growth[1])}. The loss asks only that the rejected "
        "answer fall further than the chosen one, so both can fall and the probability goes to answers in neither "
        "column. That need not be bad: read the sampled answers and the divergence before deciding. What to try:"
    )
    return Notice("The chosen answers became less likely", text, tries)


Course = tuple[str, tuple[float, float], tuple[float, float]]
"""Where it was measured; chosen log-probability and margin, each at the start and at the end."""


def _held_out_course(table: list[results.Row]) -> Course | None:
    by_key = {row.key: row for row in table}
    chosen = by_key.get("logps/chosen")
    margin = next((by_key[key] for key in ("margins", "rewards/margins") if key in by_key), None)
    if not (chosen and chosen.before and chosen.after and margin and margin.before and margin.after):
        return None
    return "Held-out", (chosen.before.value, chosen.after.value), (margin.before.value, margin.after.value)


def _training_course(run: RunFolder) -> Course | None:
    """From the first to the last tenth of the steps, if the change of the log-probability is well above its noise."""
    chosen, margin = (series(run.metrics, key, "train") for key in ("logps/chosen", "rewards/margins"))
    if chosen is None or margin is None or chosen.finite.sum() < 10:
        return None
    fall, growth = chosen.ends(), margin.ends()
    # Batches differ in length, so their mean log-probabilities scatter; successive differences measure by how much.
    values = chosen.values[chosen.finite]
    noise = np.diff(values).std() / math.sqrt(len(values) // 10)
    if fall is None or growth is None or fall[0] - fall[1] < 2 * noise:
        return None
    return "Training", fall, growth


def _overfit(run: RunFolder) -> Notice | None:
    trained = series(run.metrics, "rewards/accuracies", "train")
    held = series(run.metrics, "rewards/accuracies", "eval")
    loss = series(run.metrics, "loss", "eval")
    if trained is None or held is None:
        return None
    ends, held_ends = trained.ends(), held.ends()
    if ends is None or held_ends is None or ends[1] - held_ends[1] < 0.15:
        return None
    text = (
        f"Training pairs are ranked right in {percent(ends[1])} of cases at the end, held-out pairs in "
        f"{percent(held_ends[1])}: part of what was learned is these pairs and not the preference."
    )
    if loss is not None and loss.finite.sum() > 2:
        values, steps = loss.values[loss.finite], loss.steps[loss.finite]
        if values[-1] > values.min() * 1.02:
            text += f" Held-out loss was least ({shown(float(values.min()))}) at step {steps[values.argmin()]:.0f}."
    tries = ("fewer epochs", "more data", "a larger beta", "LoRA")
    return Notice("Training and held-out accuracy differ", text, tries)


def _length(table: list[results.Row]) -> Notice | None:
    row = next((row for row in table if row.key in ("length", "response_length", "length/sampled")), None)
    if row is None or row.before is None or row.after is None or row.before.value <= 0:
        return None
    if 0.7 <= row.after.value / row.before.value <= 1.3:
        return None
    text = (
        f"Answers went from {shown(row.before.value)} to {shown(row.after.value)} tokens on average. "
        "Check that the gain is not one of length alone."
    )
    return Notice("Answers changed in length", text, ("a mean over tokens: `--reduce mean`", "pairs of like length"))


def _cut(run: RunFolder) -> Notice | None:
    """Much of the training data is truncated or left out."""
    data = run.run.get("data")
    train = data.get("train") if isinstance(data, dict) else None
    encoding = train.get("encoding") if isinstance(train, dict) else None
    if not isinstance(encoding, dict):
        return None
    every, encoded, truncated = (number(encoding.get(key)) for key in ("comparisons", "encoded", "truncated"))
    if not every or encoded is None:
        return None
    parts = []
    if truncated and encoded and truncated / encoded > 0.05:
        parts.append(f"{percent(truncated / encoded)} of the training comparisons are truncated")
    if (every - encoded) / every > 0.05:
        parts.append(f"{percent((every - encoded) / every)} could not be used")
    if not parts:
        return None
    tries = ("a larger `--max-length`, where memory allows", "another `--truncation`")
    return Notice("Much of the data is cut", " and ".join(parts) + ".", tries)


def _length_bias(run: RunFolder) -> Notice | None:
    """Chosen and rejected answers differ much in length."""
    chosen, rejected = (series(run.metrics, f"length/{side}", "train") for side in ("chosen", "rejected"))
    if chosen is None or rejected is None or not (chosen.finite.any() and rejected.finite.any()):
        return None
    long, short = (float(curve.values[curve.finite].mean()) for curve in (chosen, rejected))
    if short <= 0 or 0.8 <= long / short <= 1.25:
        return None
    word = "longer" if long > short else "shorter"
    text = (
        f"Chosen answers of the training data have {shown(long)} tokens on average, rejected ones {shown(short)}. "
        "Length alone tells many of the pairs apart, and the model may learn no more than that."
    )
    tries = ("a mean over tokens: `--reduce mean`", "`rather check` on the data, and pairs of like length")
    return Notice(f"Chosen answers are {word} than rejected ones", text, tries)
