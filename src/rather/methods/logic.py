"""Losses compiled from a formula, arXiv 2412.17696: ``logic:FORMULA``.

    rho = log WMC((P | P_A) & P_C) - log WMC((~P | P_A) & P_C)
    L = f(rho) - sft log p_w

P says what a preference is, over Mw and Ml (the model accepts the winner, the loser) and, if named, Refw and Refl (the
reference does). WMC sums, over the rows of the truth table in which a formula holds, the product of the propositions'
probabilities, p where true and 1 - p where false. P_C (``given``) says which rows count at all, P_A (``also``) which
count on both sides.

    logic:Ml -> Mw                                     unCPO
    logic:Ml -> Mw; given=Mw | Ml                      cCPO, which is also logic:cCPO
    logic:Ml -> Mw; given=Mw | Ml; also=Mw & Ml; ref   DPO, which is also logic:CPO; ref

``ref`` adds log r_l - log r_w to rho. Probabilities are geometric means over tokens, as in the paper's study: those of
whole sequences are so small that most formulas become the same loss, or none. A log-probability above -1e-7 counts as
that and gets no gradient (our reading). f: logistic, -log sigma(beta rho); square, (rho - 1/(2 beta))^2; hinge, max(0,
1 - beta rho), which is the paper's max(0, delta - rho) with delta = 1 / beta, over delta. ``gamma`` is subtracted from
beta rho; with the hinge, gamma = -1 is max(0, -beta rho), the rank loss of RRHF.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from pydantic import Field
from sympy import Basic, Symbol

from rather.logic.counting import rows_of
from rather.logic.meaning import PREFIX
from rather.logic.names import name_of
from rather.logic.notation import spelled
from rather.logic.structure import P_L, P_W, R_L, R_W, Structure
from rather.methods.base import Method, Need, PairOptions, pairwise
from rather.objectives.counted import CountedRows
from rather.objectives.links import Hinge, Link, Logistic, Square
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction


class Options(PairOptions):
    beta: float = Field(1.0, gt=0, description="scale of rho")
    link: Literal["logistic", "square", "hinge"] = Field(
        "logistic", description="the loss of a pair as a function of rho"
    )
    gamma: float = Field(0.0, description="margin asked for, in the unit of beta rho")
    reduce: Reduction = Field("mean", description="a response's log-probability: sum or mean over its tokens")
    sft: float = Field(0.0, ge=0, description="weight of an added -log p of the preferred response, of the same p")


@cache
def method_of(name: str) -> Method:
    """The method that ``logic:FORMULA`` names; its own name is the formula in the library's spelling.

    Raises:
        UserError: the formula cannot be read, or there is nothing that it could teach.
    """
    text, structure = (reading := spelled(name.removeprefix(PREFIX))).text, reading.structure
    structure.check(f"{PREFIX}{text}")
    needs: set[Need] = {"pairs", "likelihood"}
    if structure.needs_reference:
        needs.add("reference")
    known = name_of(structure)

    def build(options: Options) -> Preference:
        propositions = 4 if structure.needs_reference else 2
        return pairwise(
            options,
            _link(options),
            offset=options.gamma,
            sft_per="responses" if options.reduce == "mean" else "sums",
            needs_reference=structure.needs_reference,
            matching=CountedRows(rows_of(structure.tick, propositions), rows_of(structure.cross, propositions)),
        )

    return Method(
        name=f"{PREFIX}{text}",
        title="Preference loss compiled from a formula",
        equation=f"-log sigma(beta rho),  exp rho = {structure.ratio()}",
        source="arXiv 2412.17696",
        options=Options,
        build=build,
        needs=frozenset(needs),
        dpo_limit={"reduce": "sum"} if known and known[0] == "CPO" else None,
        exceptions=_exceptions(structure),
    )


def _link(options: Options) -> Link:
    return {"logistic": Logistic, "square": lambda: Square(options.beta), "hinge": Hinge}[options.link]()


def _exceptions(structure: Structure) -> dict[str, str]:
    """Conformance properties that the formula does not have."""
    found: dict[str, str] = {}
    if not _unchanged(structure, P_W, P_L):
        found["margin_only"] = "the formula speaks of probabilities, not of their ratio alone"
    if structure.needs_reference and not all(_unchanged(structure, *pair) for pair in ((P_W, R_W), (P_L, R_L))):
        found["shift"] = "the formula compares probabilities with more than the reference's"
    if not _raises_the_winner(structure):
        found["direction"] = "the formula does not ask for the winner rather than the loser"
    return found


def _unchanged(structure: Structure, *scaled: Symbol) -> bool:
    """Whether exp rho stays as it is when these probabilities are multiplied by one number."""
    factor = Symbol("factor")
    top, bottom = structure.polynomials()
    swap: dict[Basic | complex, Basic | complex] = {p: factor * p for p in scaled}
    return (top.subs(swap) * bottom - top * bottom.subs(swap)).expand() == 0


def _raises_the_winner(structure: Structure) -> bool:
    """Whether, with all probabilities 1/e, a step on the loss raises the winner relative to the loser."""
    logps = torch.full((4,), -1.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(structure.rho(*logps), logps)
    return bool(gradient[0] > gradient[1])
