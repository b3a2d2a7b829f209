"""Token-level adaptive barrier preference optimization (TAB-PO), arXiv 2603.00025.

    s(y; pi) = sum_t w_t log pi(y_t|.) / sum_t w_t
    z        = [s(y_w; pi) - s(y_l; pi)] - [s(y_w; ref) - s(y_l; ref)]
    B        = sum_t g_t w_t (-log pi(y_t)) / max(1, sum_t g_t w_t)   over y_w,   g_t = 1[pi(y_t) < tau],  w of mean 1
    L        = -log sigma(beta z) + barrier B

For structured outputs whose two versions differ in a few tokens. Weights are those of ``ByTypeAndDifference``: tokens of
JSON values by their key, times a factor where the two responses differ; a column ``spans`` of the data may add its own.
They are made when data is encoded, the same for policy and reference. The barrier keeps what DPO erodes, the likelihood
of the preferred answer and of what both answers share.

Weights and differences are the released script's; tau is the value that sweeps found best (the script has 0.66). By
default a value is weighted where it stands and not wherever its text occurs (``occurrences=everywhere`` for the
released behaviour). With all weights 1 and no barrier it is length-normalised DPO.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from rather.methods.base import Limit, Method, PairOptions, pairwise
from rather.objectives.barrier import ConfidenceBarrier
from rather.objectives.element_weights import CarriedWeights
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction
from rather.objectives.token_weights import Alignment, ByTypeAndDifference, Occurrences


class Options(PairOptions):
    beta: float = Field(0.5, gt=0, description="scale of the implicit reward, per token")
    reduce: Reduction = Field("mean", description="a response's score: weighted sum or weighted mean over its tokens")
    barrier: float = Field(0.5, ge=0, description="weight of the barrier (lambda)")
    tau: float = Field(0.9, ge=0, description="probability from which a token is left out of the barrier")
    weights: Literal["typed", "none"] = Field("typed", description="weights from values and differences, or all 1")
    value_weights: str = Field(
        "Code=1.1,Sub-code=1.2,Span=1.1",
        description="weights of tokens of JSON values, KEY=WEIGHT comma-separated; * for other keys",
    )
    difference_weight: float = Field(1.2, gt=0, description="factor where the two responses differ")
    alignment: Alignment = Field(
        "position", description="how they are compared: token by token, or as difflib aligns them"
    )
    occurrences: Occurrences = Field("value", description="weight a value where it stands, or everywhere it occurs")

    @field_validator("value_weights")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse_weights(text)
        return text


def parse_weights(text: str) -> dict[str, float]:
    """``"Code=1.1,Span=2"`` as a mapping.

    Raises:
        ValueError: an entry is not KEY=WEIGHT with a positive weight.
    """
    found: dict[str, float] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        key, _, number = entry.rpartition("=")
        try:
            found[key.strip()] = float(number)
        except ValueError:
            raise ValueError(f"value_weights has {entry!r}, which is not KEY=WEIGHT") from None
        if not key.strip() or not 0 < found[key.strip()] < float("inf"):
            raise ValueError(f"value_weights has {entry!r}; a key and a weight above 0 are needed")
    return found


def build(options: Options) -> Preference:
    weights = CarriedWeights() if options.weights == "typed" else None
    anchors = (ConfidenceBarrier(options.barrier, options.tau, weights),) if options.barrier else ()
    objective = pairwise(options, Logistic(), element_weights=weights, anchors=anchors)
    if weights is not None:
        rule = (
            parse_weights(options.value_weights),
            options.difference_weight,
            options.alignment,
            options.occurrences,
        )
        objective.weigh = ByTypeAndDifference(*rule)
    return objective


METHOD = Method(
    name="tab_po",
    title="TAB-PO: token weights and a barrier on unsure tokens, for structured outputs",
    equation="-log sigma(beta z) + lambda mean NLL of chosen tokens with p < tau,  z from weighted means over tokens",
    source="arXiv 2603.00025",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "reference", "likelihood", "tokens"}),
    aliases=("tabpo",),
    dpo_limit={"reduce": "sum", "barrier": 0.0, "weights": "none"},
    limits=(Limit({"weights": "none", "barrier": 0.0}, "dpo_norm", {"beta": 0.5}),),
    exceptions={
        "margin_only": "the barrier is about the likelihood of the preferred response itself",
        "shift": "the barrier is about the likelihood of the preferred response itself",
    },
)
