"""What the studies of SAIL ask of their rounds, in any world."""

from __future__ import annotations

from rather.studies.base import Criterion
from rather.studies.results import Estimate, Finding, Results, every

SAIL, ALONE, SEEDS = "SAIL", "all self", "seeds only"
"""Arms: a share of own labels, nothing else, none."""


def cell(arm: str, number: int) -> str:
    """Row of an arm after a round from 1 on; before them is "round 0"."""
    return f"{arm}, round {number}"


def last(r: Results, arm: str) -> str:
    return cell(arm, r.settings.rounds)


def claims(metric: str, seeds: str) -> tuple[Criterion, ...]:
    """The criteria, given a metric that is better when higher and what labelled pairs are called; "right" is the share of
    self-labels that are."""

    def over(r: Results, other: str, of: str = metric) -> Estimate:
        return r.difference(last(r, SAIL), last(r, other), of)

    def rises(r: Results) -> Finding:
        rounds = ("round 0", cell(SAIL, 1), cell(SAIL, 2))
        return every(*(r.difference(rounds[k + 1], rounds[k], metric).above(0.0) for k in range(2)))

    def right(r: Results) -> Finding:
        return every(*(r.mean(cell(SAIL, number), "right").above(0.5) for number in range(1, r.settings.rounds + 1)))

    def no_better_than_seeds(r: Results) -> Finding:
        lead = over(r, SEEDS)
        return Finding(lead.low <= 0, f"{lead.text()}, asked not above 0")

    return (
        Criterion("rises", f"SAIL's {metric} rises in the first and in the second round", rises),
        Criterion("right labels", "SAIL's self-labels are right for more than half of the pairs in every round", right),
        Criterion("replay", f"in the last round {metric} and self-labels are worse without the replay of {seeds}",
                  lambda r: every(*(over(r, ALONE, of).above(0.0) for of in (metric, "right")))),
        Criterion("seeds are enough", f"after the last round SAIL's {metric} is not above that of {seeds} alone, with the "
                  "same steps and references", no_better_than_seeds, "refutes"),
    )  # fmt: skip
