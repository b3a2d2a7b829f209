"""Self-supervised preference optimization with preference degrees (SPO), arXiv 2409.17791, over any pairwise method.

    L = L_base + degree.gamma * 1/2 (L_pd(y_w) + L_pd(y_l)),   L_pd(y) = cross-entropy(W mean(states of y^(k)) + b, k)

y^(k) is y with its best key phrases (RAKE) taken out, the more the higher the level k of ``degree.levels``: none at level
0, all at the last. A head on the policy's last hidden states, averaged over the tokens of y^(k), tells the level; it is
trained beside the policy, saved and resumed with the run, and of no use after it. The base loss never sees y^(k).

``--method degree_spo`` is over DPO; ``--method ipo+degree_spo`` (and any pairwise method in place of ipo) over another.
Options of the base keep their names, those of the term stand under ``degree``.

Our reading: head, pooling, levels, the factor 1/2 and the weight, which the paper's text was not at hand for. Level and
side are fixed for a response by the seed, one level or all. A response of fewer than levels - 1 phrases is left out. Taking
text out makes it shorter, so a head can tell degrees by length; labels are levels, not rewards. There is no dropout by
default, so that how a step is split changes nothing. SPO is also the name of self-play methods; this is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from rather.data.degrees import Side, with_degrees
from rather.data.rake import stop_words
from rather.data.types import Comparison
from rather.errors import UserError
from rather.methods import dpo
from rather.methods.base import Method, MethodOptions, Need
from rather.objectives.degree import DegreeLoss
from rather.objectives.extended import Extended

SUFFIX = "degree_spo"


class DegreeOptions(BaseModel):
    """The term that tells degrees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gamma: float = Field(default=0.1, ge=0, description="weight of the degree loss; 0.01 to 1")
    levels: int = Field(default=4, ge=2, description="number of degrees, the whole text included")
    apply_to: Side = Field(default="both", description="responses that are graded: both, chosen or rejected")
    draw: Literal["one", "all"] = Field(
        default="one", description="levels of a response: one, drawn by the seed, or all"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of the averaged state before the head")
    language: str = Field(
        default="english", description="stop words of the key phrases: english, french, german, spanish"
    )

    @field_validator("language")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            stop_words(value)
        except UserError as error:
            raise ValueError(str(error)) from None
        return value


def onto(base: Method) -> Method:
    """The method of ``base`` with a degree loss.

    Raises:
        UserError: it makes no use of pairs.
    """
    if not base.needs & {"pairs", "lists", "marks"}:
        raise UserError(f"{base.name!r} makes no use of pairs", where=f"--method {base.name}+{SUFFIX}")
    options = create_model(
        "Options",
        __base__=base.options,
        degree=(DegreeOptions, Field(DegreeOptions(), description="the degree loss")),
    )

    def build(options: Any) -> Extended:
        degree = options.degree
        return Extended(base.build(options), [DegreeLoss(degree.gamma, degree.levels, degree.dropout)])

    def augment(options: Any, comparisons: Sequence[Comparison], seed: int) -> list[Comparison]:
        found = list(comparisons) if base.augment is None else base.augment(options, comparisons, seed)
        return [_graded(one, options.degree, seed) for one in found] if options.degree.gamma else found

    return Method(
        name=f"{base.name}+{SUFFIX}",
        title=f"{base.title}, and how much has been taken out of a response",
        equation=f"{base.equation}, plus gamma/2 (CE(y_w^(k), k) + CE(y_l^(k), k))",
        source=f"arXiv 2409.17791 over {base.name}",
        options=_checked(options),
        build=build,
        needs=base.needs | frozenset[Need]({"pairs", "auxiliary"}),
        dpo_limit=None if base.dpo_limit is None else {**base.dpo_limit, "degree.gamma": 0.0},
        exceptions=base.exceptions,
        augment=augment,
        wrap=base.wrap,
    )


def _checked(options: type[BaseModel]) -> type[MethodOptions]:
    assert issubclass(options, MethodOptions)  # made from one
    return options


def _graded(comparison: Comparison, options: DegreeOptions, seed: int) -> Comparison:
    return with_degrees(
        comparison,
        seed,
        levels=options.levels,
        stops=stop_words(options.language),
        apply_to=options.apply_to,
        every_level=options.draw == "all",
    )


_OVER_DPO = onto(dpo.METHOD)

METHOD = Method(**{**vars(_OVER_DPO), "name": SUFFIX, "aliases": ("preference_degree",)})
