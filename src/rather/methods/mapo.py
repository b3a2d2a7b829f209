"""Margin-aware preference optimization on bounded denoising errors (MaPO), arXiv 2406.06424.

    phi(u) = u / (exp(u) - 1),   m: mean squared denoising error of the policy, the same noise and timestep for both
    L = m_w - w log sigma(beta [phi(snr m_w)^power - phi(snr m_l)^power])

    variant   beta   snr   power   w
    code      1000   0.5   1       0.1        as released (of version 1), the default
    v2        1      1     8       1 / power  version 2, eqs. 9-11; the paper's beta is our power

No reference: the plain denoising loss on the winner (``sft=2`` on scores that are minus half of m) holds the model, and a
bounded score keeps the loser from being pushed away for ever. beta of ``code`` is the number of training timesteps. Its
paper's beta is our ``margin_weight``; a variant's numbers may be changed one by one. Version 2 takes the power by task: 8
general, 32 culture, 64 safety and style, 1024 personalization. That its error is a mean over elements, not a sum, is the
best reading: phi of a sum over a latent vanishes. Not the token masks of the same acronym (``mapo_tokens``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction
from rather.objectives.transforms import Bounded


class Options(PairOptions):
    variant: Literal["code", "v2"] = Field("code", description="the released code's numbers, or version 2's")
    beta: float = Field(1000.0, gt=0, description="scale of the bounded scores; number of timesteps in code, 1 in v2")
    snr: float = Field(0.5, gt=0, description="factor on the error inside phi; 1 in v2")
    power: float = Field(1.0, ge=1, description="exponent of phi; 8 in v2, the more the larger the mismatch")
    margin_weight: float = Field(0.1, ge=0, description="weight of the margin's term; 1 / power in v2")
    sft: float = Field(2.0, ge=0, description="weight of the SFT term, the mean of minus the winners' scores")
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its elements")

    @model_validator(mode="before")
    @classmethod
    def _of_the_variant(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Version 2's own numbers, where none is given."""
        given = dict(values)
        if given.get("variant") == "v2":
            given = {"beta": 1.0, "snr": 1.0, "power": 8.0} | given
            given.setdefault("margin_weight", 1 / max(float(given["power"]), 1.0))
        return given


def build(options: Options) -> Preference:
    return pairwise(
        options,
        Logistic(),
        sft_per="responses",
        needs_reference=False,
        transform=Bounded(options.snr, options.power),
        coefficient=options.margin_weight,
    )


METHOD = Method(
    name="mapo",
    title="Margin-aware preference optimization on bounded denoising errors, without a reference",
    equation="m_w - w log sigma(beta [phi(snr m_w) - phi(snr m_l)]),  phi(u) = u / (exp(u) - 1)",
    source="arXiv 2406.06424",
    options=Options,
    build=build,
    needs=frozenset({"pairs"}),
    aliases=("margin_aware",),
    exceptions={"margin_only": "bounded scores and the SFT term see the level of the error"},
)
