"""DPO on denoising errors (Diffusion-DPO), arXiv 2311.12908.

    m, r = mean squared denoising error of policy and reference, on the same noise and timestep for both images
    L = -log sigma(-beta/2 [(m_w - r_w) - (m_l - r_l)])                                       (eq. 14, as released)

DPO with minus half the squared error of each latent element as its score and means over elements, so beta is the
published number of the released code: 2000 for SD 1.5, 5000 for SDXL. A code without the factor 1/2 has half that
number. On sums over D elements the same loss has beta / D (5000 over 16,384 elements: 0.31). How responses are noised is
an option; inpo, smpo and pnapo are other choices of it.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Limit, Method, PairOptions, pairwise
from rather.methods.noising import NoisingOptions
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction


class Options(PairOptions):
    beta: float = Field(5000.0, gt=0, description="scale on half the mean squared error; 2000 SD 1.5, 5000 SDXL")
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its elements")
    noising: NoisingOptions = Field(NoisingOptions.model_validate({}), description="how responses are noised")


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), noising=options.noising.build())


METHOD = Method(
    name="diffusion_dpo",
    title="DPO on denoising errors",
    equation="-log sigma(-beta/2 [(m_w - r_w) - (m_l - r_l)]),  m, r: mean squared errors",
    source="arXiv 2311.12908 eq. 14",
    options=Options,
    build=build,
    dpo_limit={"reduce": "sum"},
    limits=(Limit({"beta": 2000.0}, "dpo", {"reduce": "mean", "beta": 2000.0}),),
)
