"""DPO for rectified flow on the noise that each image was made from (PNAPO), arXiv 2605.09433.

    x_t = (1 - t) x_0 + t x_T,   target x_T - x_0,   x_T: the stored noise of the image
    s = mean squared error of the policy - mean squared error of the reference
    L = -log sigma(-beta f g (s_w - s_l)),   f = 2 sigma(delta_r) - 1 = tanh(delta_r / 2)
    g = 1 until n_1, then 3/4 + 1/4 cos(pi (n - n_1) / (n_2 - n_1)), 1/2 from n_2 on;  n: optimizer steps

A straight line between an image and its own noise is nearly the model's real path, where a fresh noise is not. beta
grows with the reward gap delta_r of the pair (f, smpo's factor without a normalised reward) and halves late in the run
(g), to hold the model less close to the reference. One t for a pair, uniform; each image has its own noise.

There is no released code; the formulas agree between the reviews that we know. Best readings: means over elements, no
factor 1/2 (``half`` puts it back), g's closed form, n_1 and n_2 at half and nine tenths of the run, and rewards on the
scale of the paper's tables: delta_r is ``reward_scale`` times the difference of the data's scores. A margin or
probability that the data gives is taken as delta_r, or sigma(delta_r), as it is. For an exactly straight model the
gradient at the start is zero: the signal is carried by the reference's deviation from straightness.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import nn

from rather.data.gaps import with_gaps
from rather.data.types import Comparison
from rather.methods import diffusion_dpo
from rather.methods.base import Limit, Method, pairwise
from rather.methods.noising import StoredOptions
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.scales import Confidence, CosineDecay


class Options(diffusion_dpo.Options):
    beta: float = Field(5000.0, gt=0, description="scale on the mean squared error; 2000 FLUX.1, 5000 SD 3")
    half: bool = Field(False, description="a factor 1/2 on beta, as in Diffusion-DPO's code")
    gap_weight: bool = Field(True, description="scale beta by f of the reward gap")
    reward_scale: float = Field(100.0, gt=0, description="from the data's scores to the reward of f")
    decay_start: float = Field(0.5, ge=0, lt=1, description="share of the run after which beta falls")
    decay_end: float = Field(0.9, gt=0, description="share of the run at which beta has fallen")
    decay_floor: float = Field(0.5, ge=0, le=1, description="share of beta that is left then; 1: it does not fall")
    noising: StoredOptions = Field(  # type: ignore[assignment]  # the same options with other defaults
        StoredOptions.model_validate({}), description="how responses are noised"
    )


def build(options: Options) -> Preference:
    scales: list[nn.Module] = [Confidence()] if options.gap_weight else []
    if options.decay_floor < 1:
        scales.append(CosineDecay(options.decay_start, options.decay_end, options.decay_floor))
    # Scores are minus half the squared error, so an objective's beta is that of the convention with the factor 1/2.
    halved = options if options.half else options.model_copy(update={"beta": 2 * options.beta})
    return pairwise(halved, Logistic(), scales=scales, noising=options.noising.build())


def augment(options: Options, comparisons: Sequence[Comparison], seed: int) -> list[Comparison]:
    """The reward gap as the margin of each edge."""
    return with_gaps(comparisons, options.reward_scale)


METHOD = Method(
    name="pnapo",
    title="DPO for rectified flow on the noise that each image was made from",
    equation="-log sigma(-beta f(delta_r) g(n) (s_w - s_l)),  s: squared velocity errors of policy minus reference",
    source="arXiv 2605.09433, our reading",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "reference", "confidence", "noise"}),
    aliases=("prior_noise_po",),
    dpo_limit={"half": True, "reduce": "sum"},
    limits=(
        Limit({"gap_weight": False, "decay_floor": 1.0, "half": True, "noising.model": "shared"}, "diffusion_dpo"),
    ),
    augment=augment,
)
