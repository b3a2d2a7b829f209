"""DPO on the model's own deterministic path through each image (DDIM-InPO), arXiv 2503.18454, as released.

    x_t: DDIM inversion of x_0 to t by the current policy;   tau = (x_t - sqrt(abar_t) x_0) / sqrt(1 - abar_t)
    m, r = mean squared errors of policy and reference at x_t against tau
    L = -log sigma(-beta/2 [(m_w - r_w) - (m_l - r_l)])

Diffusion-DPO with another draw: instead of a fresh noise, shared in the pair, each image gets the noise that the model
itself would have made it from. x_t and tau carry no gradient; t is one for a pair. Inversion is deterministic, without
guidance, on a grid of 10 steps that starts at x_0 taken for x at the first timestep and lands exactly on t; the
released code's random term is ``noising.eta`` 0.1. The released code inverts with the policy, which is the default;
reviews speak of the reference (``noising.inverter``). Landing on t, and the grid 0, 100, 200, ..., are the best reading.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods import diffusion_dpo
from rather.methods.base import Limit, Method
from rather.methods.noising import InversionOptions
from rather.objectives.preference import Preference


class Options(diffusion_dpo.Options):
    noising: InversionOptions = Field(  # type: ignore[assignment]  # the same options with other defaults
        InversionOptions.model_validate({}), description="how responses are noised"
    )


def build(options: Options) -> Preference:
    return diffusion_dpo.build(options)


METHOD = Method(
    name="inpo",
    title="DPO on the model's own path through each image",
    equation="-log sigma(-beta/2 [(m_w - r_w) - (m_l - r_l)]),  m, r at DDIM-inverted x_t against tau",
    source="arXiv 2503.18454, as released",
    options=Options,
    build=build,
    aliases=("ddim_inpo", "inversion_dpo"),
    dpo_limit={"reduce": "sum"},
    limits=(Limit({"noising.model": "shared"}, "diffusion_dpo"),),
)
