"""Smoothed labels on the model's own path through each image (SmPO-Diffusion), arXiv 2506.02698, as released.

    r' = (r - r_min) / (r_max - r_min),   p = sigma(r'_w - r'_l),   omega = g (2 p - 1) = g tanh((r'_w - r'_l) / 2)
    x_t: DDIM inversion by the current policy, each step corrected once (ReNoise);   tau as in InPO
    L = -log sigma(-beta/2 omega [(m_w - r_w) - (m_l - r_l)])

Inpo with a factor on each pair's beta that vanishes for a tie. omega follows the reward alone: where the data's order
contradicts it, omega is negative, which is the same as a pair turned round, so the judge's order is what is learned, as
in the release. It is no soft label: -p log sigma(z) - (1 - p) log sigma(-z) has a finite optimum, this has none.

The data has to hold a score of each response, and r_min and r_max are those of the data set unless they are given; or a
margin (r'_w - r'_l) or a probability (p) of each pair, which are taken as they are. Rewards outside of the range are not
clipped. Only g times beta matters. The release calls for a correction in every step, at the timestep where the step
arrives; a review describes one on the final latent. g and the normalisation are known from reviews and the release.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from rather.data.gaps import rating_range, with_gaps
from rather.data.types import Comparison
from rather.methods import diffusion_dpo
from rather.methods.base import Limit, Method, pairwise
from rather.methods.noising import RenoisedOptions
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.scales import Confidence


class Options(diffusion_dpo.Options):
    gain: float = Field(10.0, gt=0, description="factor g on beta times 2 p - 1")
    reward_low: float | None = Field(None, description="reward that counts as 0; the least of the data when left out")
    reward_high: float | None = Field(
        None, description="reward that counts as 1; the greatest of the data when left out"
    )
    noising: RenoisedOptions = Field(  # type: ignore[assignment]  # the same options with other defaults
        RenoisedOptions.model_validate({}), description="how responses are noised"
    )


def build(options: Options) -> Preference:
    scales = (Confidence(options.gain),)
    return pairwise(options, Logistic(), scales=scales, noising=options.noising.build())


def augment(options: Options, comparisons: Sequence[Comparison], seed: int) -> list[Comparison]:
    """The gap of the normalised rewards as the margin of each edge."""
    least, greatest = rating_range(comparisons)
    low = least if options.reward_low is None else options.reward_low
    high = greatest if options.reward_high is None else options.reward_high
    return with_gaps(comparisons, 1 / (high - low) if high > low else 1.0)


METHOD = Method(
    name="smpo",
    title="Smoothed labels on the model's own path through each image",
    equation="-log sigma(-beta/2 g (2p-1) [(m_w - r_w) - (m_l - r_l)]),  p = sigma(r'_w - r'_l)",
    source="arXiv 2506.02698, as released",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "reference", "confidence"}),
    aliases=("smoothed_po",),
    dpo_limit={"gain": 1.0, "reduce": "sum"},
    limits=(Limit({"gain": 1.0, "noising.model": "shared"}, "diffusion_dpo"),),
    augment=augment,
)
