"""What a method is: a named composition with defaults from its paper.

A method file holds a docstring (equation, source, what differs from DPO), an options model and one ``Method``. Nothing
else in the library knows the method by name: the registry, the command line, the docs and the conformance suite read
the ``Method``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from rather.data.types import Comparison
from rather.errors import UserError, nearest
from rather.objectives.anchors import Likelihood
from rather.objectives.base import Objective
from rather.objectives.labels import FlipCorrected, Hard, LabelOrder, Moving, Smoothed, Soft
from rather.objectives.links import Link
from rather.objectives.margins import Offset
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction
from rather.policies.base import Policy

Need = Literal[
    "pairs",
    "lists",
    "marks",
    "targets",
    "scores",
    "reference",
    "likelihood",
    "tokens",
    "auxiliary",
    "confidence",
    "noise",
    "reward",
    "embedding",
    "rollouts",
]
"""What a method needs of data and policy.

``pairs``: edges; ``lists``: several edges with one winner are used jointly (one edge is fine too); ``marks``:
desirable or undesirable responses (edges count as both); ``targets``: responses to imitate; ``reference``: reference
scores; ``likelihood``: scores that are true log-probabilities (a denoising bound will not do); ``tokens``: per-token
scores; ``auxiliary``: further responses that ``Method.augment`` adds, with prompts of their own; ``scores``: a rating of
every response; ``confidence``: a rating of every response, or a probability or margin of every edge; ``noise``: the noise
that each response was generated from; ``reward``, ``embedding``: the scores of a reward model; ``rollouts``: targets that
the model made itself (``rather.policies.rollout``).
"""


SftUnit = Literal["elements", "responses", "sums"]


class LabelOptions(BaseModel):
    """A label model chosen by hand; wraps the link of any pairwise method."""

    model_config = ConfigDict(extra="forbid")

    model: Literal["hard", "smoothed", "flip_corrected", "soft", "moving"] | None = Field(
        default=None, description="what is believed about labels; inferred from a given rate when left out"
    )
    smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="share of wrong labels to smooth over (cDPO)")
    flip_rate: float = Field(
        default=0.0, ge=0, lt=0.5, description="rate of flipped labels to correct for, unbiased (rDPO)"
    )
    gamma: float = Field(
        default=0.0, ge=0, le=1, description="how far a moving label goes to the model's own prediction at each visit"
    )
    start: float = Field(default=1.0, ge=0, le=1, description="a moving label before the first visit")
    order: LabelOrder = Field(
        default="update_first", description="a moving label in the loss: after this visit's move, or before it"
    )

    @model_validator(mode="after")
    def _one_model(self) -> LabelOptions:
        rates = {"smoothed": "smoothing", "flip_corrected": "flip_rate", "moving": "gamma"}
        given = [f"labels.{name}" for name in rates.values() if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"give either {' or '.join(given)}, not both")
        if self.model == "moving" and not self.gamma:
            raise ValueError("a moving label needs a labels.gamma above 0")
        if not self.gamma and (self.start, self.order) != (1.0, "update_first"):
            raise ValueError("labels.start and labels.order belong to a moving label: give labels.gamma")
        return self

    def build(self) -> Hard:
        inferred = "smoothed" if self.smoothing else "flip_corrected" if self.flip_rate else "hard"
        return {
            "hard": Hard,
            "smoothed": lambda: Smoothed(self.smoothing),
            "flip_corrected": lambda: FlipCorrected(self.flip_rate),
            "soft": Soft,
            "moving": lambda: Moving(self.gamma, self.start, self.order),
        }[self.model or ("moving" if self.gamma else inferred)]()


class MethodOptions(BaseModel):
    """Options of a method; every field is a flag of ``rather train`` and a key of its YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ScaleOptions(MethodOptions):
    """Options of every method with an implicit reward."""

    beta: float = Field(0.1, gt=0, description="scale of the implicit reward")
    reduce: Reduction = Field("sum", description="a response's score: sum or mean over its tokens")


class EndsOptions(ScaleOptions):
    """Options of pairwise methods that look at the two ends of a pair apart: no margin can be asked of them."""

    labels: LabelOptions = Field(LabelOptions(), description="label model around the link")
    sft: float = Field(0.0, ge=0, description="weight of an added SFT term: mean token NLL of the preferred responses")


class PairOptions(EndsOptions):
    """Options of methods of the margin; a method's own options extend them and set its paper's defaults."""

    margin_scale: float = Field(0.0, ge=0, description="factor on the data's margin column, asked of each pair")


@dataclass(frozen=True)
class Limit:
    """Another method that this one is under some options: equal losses on every batch."""

    under: Mapping[str, Any]
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A method of preference optimization, declared.

    Attributes:
        name: the idea's name; ``aliases`` hold the paper's acronym.
        equation: one line, in the library's symbols (h log-ratio margin, z scaled margin).
        source: arXiv id with equation number, or a description of the reference implementation.
        dpo_limit: options under which the objective of a single pair equals DPO with the same beta (DPO with a
            constant reference, where the method has none), or ``None`` when there are none.
        limits: other methods that it is under some options.
        exceptions: conformance properties (``rather.testing.PROPERTIES``) that do not hold, each with the reason.
        augment: (options, comparisons, seed) -> the comparisons with what the method adds to them (auxiliary
            responses, edges, margins), before they are encoded; a function of each comparison and the seed alone.
        wrap: (options, policy) -> the policy in the form that the method trains, before anything is encoded; the policy
            itself where that has no such form, which is then refused for what it lacks.
        negative: the trained model is not sampled from; samples of another one are guided away from it.
    """

    name: str
    title: str
    equation: str
    source: str
    options: type[MethodOptions]
    build: Callable[[Any], Objective]
    needs: frozenset[Need] = frozenset({"pairs", "reference"})
    aliases: tuple[str, ...] = ()
    citation: str = ""
    dpo_limit: Mapping[str, Any] | None = None
    limits: tuple[Limit, ...] = ()
    exceptions: Mapping[str, str] = field(default_factory=dict)
    augment: Callable[[Any, Sequence[Comparison], int], list[Comparison]] | None = None
    wrap: Callable[[Any, Policy], Policy] | None = None
    negative: bool = False

    def configure(self, values: Mapping[str, Any]) -> MethodOptions:
        """Validated options; dotted keys (``labels.flip_rate``) address nested ones.

        Raises:
            UserError: an option that the method does not have, or a value out of range.
        """
        nested: dict[str, Any] = {}
        for key, value in values.items():
            *path, last = key.split(".")
            level = nested
            for part in path:
                level = level.setdefault(part, {})
            level[last] = value
        try:
            return self.options.model_validate(nested)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                fix = nearest(name, self.option_names())
                raise UserError(f"method {self.name!r} has no option {name!r}", where=f"--{name}", fix=fix) from None
            given = first.get("input")
            fix = f"got {given!r}; see `rather methods` or `rather explain {self.name}`"
            raise UserError(first["msg"], where=f"--{name}" if name else self.name, fix=fix) from None

    def option_names(self) -> list[str]:
        """Every option, nested ones dotted."""
        names: list[str] = []
        for name, info in self.options.model_fields.items():
            nested = info.annotation
            if isinstance(nested, type) and issubclass(nested, BaseModel):
                names += [f"{name}.{inner}" for inner in nested.model_fields]
            else:
                names.append(name)
        return names

    def objective(self, **values: Any) -> Objective:
        """The objective under these options (defaults for the rest)."""
        return self.build(self.configure(values))


def pairwise(
    options: EndsOptions,
    link: Link,
    *,
    labels: Hard | None = None,
    offset: float = 0.0,
    margins: Sequence[nn.Module] = (),
    sft_per: SftUnit = "elements",
    anchors: Sequence[nn.Module] = (),
    **parts: Any,
) -> Preference:
    """A ``Preference`` from common options and a method's own parts.

    Args:
        labels: the method's own label model; one asked for in the options takes its place.
        offset: margin asked of every edge, in the unit of the scaled reward; the data's margin is added to it.
        margins: further margins asked for, see ``Offset``.
        sft_per: what an SFT term is a mean over, see ``Likelihood``.
        anchors: the method's own further terms.
        parts: further arguments of ``Preference``.
    """
    asked = options.labels != LabelOptions()
    scale = options.margin_scale if isinstance(options, PairOptions) else 0.0
    return Preference(
        beta=options.beta,
        link=link,
        reduce=options.reduce,
        labels=options.labels.build() if asked else labels,
        offset=Offset(offset, scale, margins),
        anchors=(*anchors, *((Likelihood(options.sft, sft_per),) if options.sft else ())),
        **parts,
    )
