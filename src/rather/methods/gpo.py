"""General preference optimization (GPO), arXiv 2410.02197: log-ratios follow mean scores against the current policy.

    s_i = (1/K) sum_k s(y_i > y_k)                 K responses of the current policy to one prompt, judged pairwise
    L = mean_i ( log pi(y_i|x) - log ref(y_i|x) - s_i / beta )^2                              (eq. 5.3, log Z = 0)

One iteration: sample K (5) responses to each prompt from the policy, score them (`rather sample --judge ...`), train
with the policy as its own reference, which is what `reference` is unless told otherwise; then again. The scores come with
the data, one for each response. They are measured from their mean over the group, which changes nothing for a
skew-symmetric judge (they add up to 0), turns plain rewards into s_i = r_i - mean r, and mean win probabilities into
SPPO's P - 1/2 (arXiv 2405.00675). log Z = 0 is near the truth only where s / beta is small. `gamma` 1 is the
length-normalised variant, log-ratio / |y|. All K responses are used, averaged over responses; the released pipeline
trains on the two with extreme scores alone, half of each squared error, on scores twice these.

beta is the library's: beta times the log-ratio is the implicit reward, which follows s. It is not the temperature of the
judge. Not DeepMind's Generalized Preference Optimization, whose losses are pairwise (`dpo`, `ipo`, `hinge`).
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, ScaleOptions
from rather.objectives.groups import GroupRegression


class Options(ScaleOptions):
    beta: float = Field(0.001, gt=0, description="scale of the implicit reward: log-ratios follow scores / beta")
    gamma: float = Field(0.0, ge=0, description="power of the length that divides the log-ratio; 1 is LN-GPO")
    centred: bool = Field(True, description="measure scores from the mean of their group")


def build(options: Options) -> GroupRegression:
    return GroupRegression(beta=options.beta, gamma=options.gamma, reduce=options.reduce, centred=options.centred)


METHOD = Method(
    name="gpo",
    title="General preference optimization: regression on mean scores of a group",
    equation="(rho_i - s_i / beta)^2",
    source="arXiv 2410.02197 eq. 5.3",
    options=Options,
    build=build,
    needs=frozenset({"scores", "reference"}),
    aliases=("general_preference_optimization",),
    exceptions={
        "margin_only": "the level of a log-ratio is regressed, so a constant on a prompt's responses matters",
    },
)
