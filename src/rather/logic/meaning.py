"""What the library's methods say, in logic (arXiv 2412.17696; the readings of methods outside that paper are ours).

A method has a meaning when the loss of one pair is f(rho), rho the log ratio of two weighted counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rather.logic.lattice import place_of
from rather.logic.notation import spelled
from rather.logic.structure import Structure

PREFIX = "logic:"
LOGISTIC, SQUARE, HINGE = "-log sigma(beta rho)", "(rho - 1/(2 beta))^2", "max(0, 1 - beta rho)"


@dataclass(frozen=True)
class Meaning:
    """A method's meaning, or why it has none.

    Attributes:
        formula: the structure as ``rather.logic.notation`` spells it; ``None`` without a meaning.
        f: the loss of a pair as a function of rho.
        reduce: what a probability is: ``sum``, the sequence's; ``mean``, the geometric mean over its tokens.
        options: of the method ``logic:FORMULA`` beside ``reduce``, under which it has the same loss of a pair; ``None``
            where f is none of its links.
        note: what the formula leaves out; without a meaning, the reason.
    """

    formula: str | None
    f: str = LOGISTIC
    reduce: Literal["sum", "mean"] = "sum"
    options: Mapping[str, Any] | None = field(default_factory=dict)
    note: str = ""

    @property
    def structure(self) -> Structure | None:
        return None if self.formula is None else spelled(self.formula).structure

    def describe(self) -> str:
        """A few lines: the formula, the ratio that it compiles to, f, and its place among the named losses."""
        structure = self.structure
        if structure is None:
            return f"none: {self.note}"
        from rather.logic.printing import text_of

        of = "a sequence" if self.reduce == "sum" else "a sequence, as the geometric mean over its tokens"
        r = ", r of the reference" if structure.needs_reference else ""
        rows = {
            "formula": text_of(structure.core),
            "given": text_of(structure.given),
            "also": text_of(structure.also),
            "exp rho": structure.ratio(),
            "loss": f"{self.f};  p: probability of {of}{r}",
            "place": place_of(structure).describe(),
            "note": self.note,
        }
        plain = {"given": "true", "also": "false", "note": ""}
        return "\n".join(f"{name}: {value}" for name, value in rows.items() if value != plain.get(name))


def _dpo(
    options: Mapping[str, Any], f: str = LOGISTIC, reduce: Literal["sum", "mean"] = "sum", note: str = ""
) -> Meaning:
    return Meaning("CPO; ref", f, reduce, {"beta": 0.1, **options}, note)


def _none(reason: str) -> Meaning:
    return Meaning(None, note=reason)


_ENDS_APART = "the loss treats the two ends apart and is no function of one ratio"
_BASELINE = "each response is judged alone, against a baseline of other responses"
_SORTED = "pairs of a batch are compared with each other; on a single pair it is DPO"
_SEVERAL = "several losers enter one loss, and each would be a proposition of its own"
_TOKENS = "tokens are weighted or compared one by one, so no sequence has one probability"
_PROMPTS = "one loss compares responses to several prompts, and each would be a proposition of its own"
_FACTORS = "each pair has a beta of its own, and a negative one turns the pair round"
_REWARDS = "scores are those of a reward model, no log-probabilities of being accepted"

MEANINGS: dict[tuple[str, ...], Meaning] = {
    ("dpo", "sigmoid"): _dpo({}),
    ("dpo_norm", "sigmoid_norm", "ln_dpo"): _dpo({"beta": 5.0}, reduce="mean"),
    ("diffusion_dpo",): _dpo(
        {"beta": 5000.0},
        reduce="mean",
        note="a surrogate: the scores are denoising errors, only a bound of log-probabilities",
    ),
    ("inpo", "ddim_inpo", "inversion_dpo"): _dpo(
        {"beta": 5000.0},
        reduce="mean",
        note="a surrogate: the scores are denoising errors, at latents that the model itself would come through",
    ),
    ("smpo", "smoothed_po"): _none(_FACTORS),
    ("pnapo", "prior_noise_po"): _none(_FACTORS),
    ("rdpo", "robust"): _dpo(
        {"labels.flip_rate": 0.1},
        "[(1-eps) l(rho) - eps l(-rho)] / (1-2 eps),  l = -log sigma(beta .)",
        note="a flipped label exchanges the two counts",
    ),
    ("cdpo", "conservative"): _dpo(
        {"labels.smoothing": 0.1},
        "(1-eps) l(rho) + eps l(-rho),  l = -log sigma(beta .)",
        note="a flipped label exchanges the two counts",
    ),
    ("ipo",): _dpo({"link": "square"}, SQUARE, "mean"),
    ("hinge", "slic"): _dpo({"link": "hinge"}, HINGE, note="SLiC-HF itself has no reference: CPO"),
    ("poly_dpo", "poly"): Meaning("CPO; ref", "-log p + alpha (1 - p),  p = sigma(beta rho)", options=None),
    ("discopop",): Meaning(
        "CPO; ref", "(1-m) l(rho) + m exp(-beta rho),  m = sigma(beta rho / temperature)", options=None
    ),
    ("exo_pair", "exo"): Meaning("CPO; ref", "KL of (q, 1-q) from (1-eps, eps),  q = sigma(beta rho)", options=None),
    ("simpo",): Meaning(
        "CPO",
        "-log sigma(beta rho - gamma)",
        "mean",
        {"beta": 2.0, "gamma": 1.0},
        "gamma stands for a constant reference",
    ),
    ("cpo", "contrastive"): Meaning("CPO", options={"beta": 0.1}, note="beside it, an SFT term on the winner"),
    ("orpo",): Meaning("ORPO", reduce="mean", note="beside it, an SFT term on the winner"),
    ("sft",): Meaning(
        "CE", "-log sigma(rho) = -log p_w", "mean", note="the mean is over all tokens of a step, not over responses"
    ),
    ("constrained_po", "constrained_cpo"): Meaning(
        "CPO; ref",
        "-log sigma(beta rho - m)",
        "mean",
        options=None,
        note="m is the margin that the reference's own order asks for",
    ),
    ("power", "weighted_entropy"): Meaning(
        "CPO",
        "-log sigma(beta (rho - m)),  m = 1/|y_l| - 1/|y_w|",
        "mean",
        options=None,
        note="beside it, an SFT term on the winner",
    ),
    ("power_dl", "dynamic_labels"): Meaning(
        "CPO",
        "l f(rho) + (1-l) f(-rho) of power's f, l a moving label",
        "mean",
        options=None,
        note="beside it, an SFT term on the winner",
    ),
    ("degree_spo", "preference_degree"): _dpo({}, note="beside it, a term that tells degrees of a response"),
    ("rationale_dpo",): _dpo({}, note="beside it, the likelihood of the rationale"),
    ("rationale_orpo",): Meaning(
        "ORPO", reduce="mean", note="beside it, SFT on the winner and the likelihood of the rationale"
    ),
    ("nca_pair", "nca"): _none(_ENDS_APART),
    ("sppo_hard", "sppo"): _none(_ENDS_APART),
    ("apo_zero",): _none(_ENDS_APART),
    ("apo_down",): _none(_ENDS_APART),
    ("bco_pair", "bco"): _none(_BASELINE),
    ("kto",): _none(_BASELINE),
    ("gpo", "general_preference_optimization"): _none(_BASELINE),
    ("aot", "aot_pair"): _none(_SORTED),
    ("aot_unpaired",): _none(_SORTED),
    ("sdpo", "softmax_dpo", "s_dpo"): _none(f"{_SEVERAL}; on a single pair it is DPO"),
    ("dmpo", "mean_dpo"): _none(f"{_SEVERAL}; on a single pair it is DPO"),
    ("dynamicpo", "boundary_negatives"): _none(_SEVERAL),
    ("mppo",): _none("the margin is a difference of probabilities, no logarithm of a ratio of counts"),
    ("pad",): _none("a distribution over whole rankings is matched"),
    ("tdpo", "tdpo1"): _none(_TOKENS),
    ("sparsepo", "sparse_po"): _none(_TOKENS),
    ("mapo", "margin_aware"): _none("bounded scores are compared, no logarithms of counts"),
    ("mapo_tokens",): _none(_TOKENS),
    ("seppo", "sspo"): _none("the winner's log-ratio decides with which sign the other one enters"),
    ("self_npo", "truncated_fine_tuning"): _none("nothing is compared: a model is trained on its own roll-outs"),
    ("diffusion_npo", "negative_preference"): _none("it teaches what is not preferred"),
    ("tab_po", "tabpo"): _none(_TOKENS),
    ("mapl", "mapl_dpo"): _none(_PROMPTS),
    ("mapl_rm",): _none(_PROMPTS),
    ("bt", "bradley_terry"): _none(_REWARDS),
    ("gpm", "general_preference_model"): _none(_REWARDS),
}
"""Names of a method (its own first, then its aliases) -> meaning."""


def formula_of(method: str) -> Meaning:
    """The meaning of a method of the library, by name or alias, of ``logic:FORMULA``, or of either with ``+ADDITION``.

    A method without one, or unknown here, gets a ``Meaning`` whose formula is ``None`` and whose note says why.

    Raises:
        UserError: ``logic:`` with a formula that cannot be read.
    """
    base, plus, added = method.rpartition("+")
    if plus:
        found = formula_of(base)
        beside = f"beside it, the term of {added}"
        return found if found.formula is None else replace(found, note=f"{found.note}; {beside}".removeprefix("; "))
    if method.startswith(PREFIX):
        return Meaning(spelled(method.removeprefix(PREFIX)).text, reduce="mean")
    for names, meaning in MEANINGS.items():
        if method in names:
            return meaning
    return _none(f"no meaning is declared for {method!r}")
