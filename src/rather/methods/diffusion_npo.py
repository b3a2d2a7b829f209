"""Diffusion negative preference optimization (Diffusion-NPO), arXiv 2505.11245.

    L = -log sigma(beta/2 [(m_w - r_w) - (m_l - r_l)]),   m, r: mean squared errors of policy and reference

Diffusion-DPO with every edge exchanged: the model learns what is not preferred. It is not sampled from; it takes the
place of the unconditional prediction in classifier-free guidance, eps + omega (eps - eps_negative)
(``rather.policies.guidance``; in a pipeline's own sampler, ``rather sample --negative``), on the weights of the model
that it guides (``merged``). The loss is that of ``diffusion_dpo`` plus its margin. The released code has no factor 1/2:
its 500 (SD 1.5) and 2000 (SDXL) are 1000 and 4000 here.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.margins import Inverted
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction


class Options(PairOptions):
    beta: float = Field(1000.0, gt=0, description="scale on half the mean squared error; 1000 SD 1.5, 4000 SDXL")
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its elements")


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), matching=Inverted())


METHOD = Method(
    name="diffusion_npo",
    title="DPO on denoising errors with the labels exchanged, for a negative model",
    equation="-log sigma(-beta h),  h of mean scores",
    source="arXiv 2505.11245",
    options=Options,
    build=build,
    aliases=("negative_preference",),
    negative=True,
    exceptions={"direction": "a negative model is to prefer the rejected response"},
)
