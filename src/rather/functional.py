"""Every method as a function of log-probabilities, for a training loop of your own.

out = rather.loss("rdpo", logps_chosen, logps_rejected, ref_logps_chosen, ref_logps_rejected, flip_rate=0.2)
out.loss.backward()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rather.errors import UserError
from rather.methods.base import Method
from rather.methods.registry import get
from rather.objectives.base import Objective, wanted
from rather.objectives.labels import Soft
from rather.objectives.outcome import Outcome
from rather.objectives.preference import Preference
from rather.objectives.scales import Confidence
from rather.objectives.scores import Layout, Scores

Logps = Tensor | Sequence[Tensor]
"""[B] sums over tokens, a sequence of B tensors [T_i] of token log-probabilities, or a padded [B, T]."""


@dataclass(frozen=True)
class LossOutput:
    """What a method says about a batch of pairs.

    Attributes:
        loss: scalar: the mean over pairs plus any further terms; carries the gradient.
        per_pair: [B] loss of each pair before its weight; carries the gradient. For unpaired responses [B_c + B_r],
            chosen ones first.
        margins: [B] difference of the rewards, before any offset; empty for unpaired responses. Detached.
        chosen_rewards, rejected_rewards: [B] implicit rewards. Detached.
        terms: each term's share of the loss, by name. Detached.
    """

    loss: Tensor
    per_pair: Tensor
    margins: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Side:
    """One side's flat scores: elements [E], their response [E], lengths [B] (``None`` where only sums are known)."""

    elements: Tensor
    response: Tensor
    size: int
    lengths: Tensor | None
    summed: bool


def loss(
    method: str | Method,
    chosen: Logps,
    rejected: Logps | None = None,
    ref_chosen: Logps | None = None,
    ref_rejected: Logps | None = None,
    *,
    chosen_mask: Tensor | None = None,
    rejected_mask: Tensor | None = None,
    chosen_lengths: Tensor | None = None,
    rejected_lengths: Tensor | None = None,
    weight: Tensor | None = None,
    probability: Tensor | None = None,
    margin: Tensor | None = None,
    extras: Mapping[str, tuple[Logps, Logps]] | None = None,
    **options: Any,
) -> LossOutput:
    """The loss of a method on a batch of pairs.

    Log-probabilities may be summed ([B]), a sequence of B token vectors, or padded [B, T] with a mask; the reference's
    may be summed where the policy's are not. Methods without a reference ignore one. Moving parts (a running baseline)
    are in their first step: they see this batch alone. Unequal numbers of chosen and rejected responses, or no
    rejected ones, are unpaired feedback, for methods that take marks or targets.

    Args:
        method: name, alias or ``Method``.
        chosen, rejected: the policy's log-probabilities; gradient flows through them.
        ref_chosen, ref_rejected: the reference's; no gradient.
        chosen_mask, rejected_mask: [B, T], true on response tokens; for padded input, of the reference too.
        chosen_lengths, rejected_lengths: [B] tokens of each response, for summed input to methods that average.
        weight: [B] factors on the pairs' losses.
        probability: [B] probability that the label is right, for ``labels={"model": "soft"}`` and methods that scale beta
            by it.
        margin: [B] how much better the chosen response is, for ``margin_scale=...`` and methods that scale beta by it.
        extras: further values of each token, (chosen, rejected) in the shape of the log-probabilities: ``weight`` for
            methods that weigh tokens (1 when left out), ``kl`` (``Scores.extras``) for those that need it.
        options: of the method; nested ones as ``labels={"flip_rate": 0.1}`` or under dotted names.

    Raises:
        UserError: an unknown method or option, shapes that do not fit, or something needed that is missing.
    """
    spec = get(method) if isinstance(method, str) else method
    if "auxiliary" in spec.needs:
        fix = "train it with rather train, or give its objective Scores and a Layout that hold them"
        raise UserError(f"{spec.name!r} has terms over responses of its own making", where="method", fix=fix)
    objective = spec.objective(**options)
    _check_columns(spec, objective, probability=probability, margin=margin)
    sides = [_side("chosen", chosen, chosen_mask, chosen_lengths)]
    if rejected is not None:
        sides.append(_side("rejected", rejected, rejected_mask, rejected_lengths))
    _check_sides(spec, objective, sides)
    policy, lengths = _joined(sides)
    policy = _with_extras(spec, objective, policy, sides, dict(extras or {}), (chosen_mask, rejected_mask))
    layout = _layout(spec, lengths, [side.size for side in sides], weight, probability, margin)
    reference = None
    if objective.needs_reference:
        reference = _reference(spec, sides, [(ref_chosen, chosen_mask), (ref_rejected, rejected_mask)])
    outcome = objective(policy, reference, layout)
    return _output(outcome, layout, sides[0].size)


def _side(name: str, values: Logps, mask: Tensor | None, lengths: Tensor | None) -> _Side:
    if isinstance(values, Tensor) and values.dim() == 1:
        if mask is not None:
            raise UserError("a mask is for padded [B, T] log-probabilities", where=f"{name}_mask")
        if lengths is not None:
            lengths = torch.as_tensor(lengths, device=values.device)
            if lengths.shape != values.shape:
                raise UserError(f"has shape {_shape(lengths)}, not {_shape(values)}", where=f"{name}_lengths")
        index = torch.arange(values.numel(), device=values.device)
        return _Side(values, index, values.numel(), lengths, summed=True)
    if lengths is not None:
        raise UserError(
            "lengths are for summed log-probabilities [B]; token input has its own", where=f"{name}_lengths"
        )
    if isinstance(values, Tensor) and values.dim() == 2:
        mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.to(values.device).bool()
        if mask.shape != values.shape:
            raise UserError(f"has shape {_shape(mask)}, not {_shape(values)}", where=f"{name}_mask")
        rows = torch.arange(values.shape[0], device=values.device)
        return _Side(values[mask], rows[:, None].expand_as(mask)[mask], values.shape[0], mask.sum(1), summed=False)
    tokens = list(values) if not isinstance(values, Tensor) else []
    if not tokens or not all(isinstance(row, Tensor) and row.dim() == 1 for row in tokens):
        fix = "pass a tensor [B] of sums, a list of tensors [T], or a tensor [B, T] with a mask"
        raise UserError("not log-probabilities of a batch", where=name, fix=fix)
    count = torch.tensor([row.numel() for row in tokens], device=tokens[0].device)
    index = torch.repeat_interleave(torch.arange(len(tokens), device=count.device), count)
    return _Side(torch.cat(tokens), index, len(tokens), count, summed=False)


def _check_columns(method: Method, objective: Objective, **columns: Tensor | None) -> None:
    """Refuse a column that the objective would not look at."""
    labels = objective.labels if isinstance(objective, Preference) else None
    scaled = isinstance(objective, Preference) and any(isinstance(part, Confidence) for part in objective.scales)
    if columns["probability"] is not None and not (isinstance(labels, Soft) or scaled):
        fix = "pass labels={'model': 'soft'} to use it" if labels is not None else None
        raise UserError(f"{method.name!r} does not look at it under these options", where="probability", fix=fix)
    offset = isinstance(objective, Preference) and objective.offset.scale
    if columns["margin"] is not None and not (offset or scaled):
        fix = "pass margin_scale=1.0 to ask for it" if "margin_scale" in method.option_names() else None
        raise UserError(f"{method.name!r} does not look at it under these options", where="margin", fix=fix)


def _check_sides(method: Method, objective: Objective, sides: list[_Side]) -> None:
    for name, side in zip(("chosen", "rejected"), sides, strict=False):
        if side.summed and side.lengths is None and objective.needs_lengths:
            fix = f"pass {name}_lengths, or log-probabilities of tokens"
            raise UserError(f"{method.name!r} averages over tokens and needs the lengths", where=name, fix=fix)
        if side.summed and "tokens" in method.needs:
            raise UserError(f"{method.name!r} needs the log-probability of each token", where=name)
    if len({side.size for side in sides}) == 1 and len(sides) == 2:
        return
    if not method.needs & {"marks", "targets"}:
        given = f"{sides[0].size} chosen and {sides[1].size if len(sides) > 1 else 0} rejected responses"
        raise UserError(f"{method.name!r} needs pairs, got {given}", where="rejected")


def _joined(sides: list[_Side]) -> tuple[Scores, Tensor]:
    """Both sides as one: scores, and lengths [R] (1 where unknown and not needed)."""
    starts = [0, sides[0].size]
    response = torch.cat([side.response + start for side, start in zip(sides, starts, strict=False)])
    lengths = [s.lengths if s.lengths is not None else torch.ones_like(s.response) for s in sides]
    return Scores(torch.cat([side.elements for side in sides]), response), torch.cat(lengths)


def _reference(method: Method, sides: list[_Side], given: list[tuple[Logps | None, Tensor | None]]) -> Scores:
    """The reference's scores in the policy's layout."""
    parsed = []
    for name, side, (values, mask) in zip(("ref_chosen", "ref_rejected"), sides, given, strict=False):
        if values is None:
            fix = "pass the reference's log-probabilities of the same responses"
            raise UserError(f"{method.name!r} compares with a reference", where=name, fix=fix)
        own = _side(name, values, mask if isinstance(values, Tensor) and values.dim() == 2 else None, None)
        if own.size != side.size:
            raise UserError(f"{own.size} responses, but {side.size} of the policy", where=name)
        if own.lengths is not None and side.lengths is not None and not torch.equal(own.lengths, side.lengths):
            raise UserError("its responses have other numbers of tokens than the policy's", where=name)
        parsed.append(own)
    return _joined(parsed)[0].detach()


def _with_extras(
    method: Method,
    objective: Objective,
    policy: Scores,
    sides: list[_Side],
    given: dict[str, tuple[Logps, Logps]],
    masks: tuple[Tensor | None, Tensor | None],
) -> Scores:
    """The policy's scores with what else the objective wants of each token."""
    own, of_reference = wanted(objective)
    inside = of_reference - (frozenset({"states"}) if "kl" in own else frozenset())
    if inside:
        fix = "train it with rather train, or give its objective Scores that carry them"
        raise UserError(f"{method.name!r} looks at the reference model's {', '.join(sorted(inside))}", fix=fix)
    if lacking := own - given.keys() - {"ids", "weight"}:
        what = f"{method.name!r} needs {', '.join(sorted(lacking))} of each token"
        raise UserError(what, where="extras", fix="pass extras={NAME: (chosen, rejected)}, in the shape of those")
    if unused := sorted(given.keys() - own):
        raise UserError(f"{method.name!r} does not look at {unused[0]} under these options", where="extras")
    found = {}
    for name, values in given.items():
        parsed = [_side(name, side, mask, None) for side, mask in zip(values, masks, strict=True)]
        flat, _ = _joined(parsed)
        if len(parsed) != len(sides) or not torch.equal(flat.response, policy.response):
            raise UserError("has other numbers of tokens than the log-probabilities", where=f"extras[{name!r}]")
        found[name] = flat.elements
    return replace(policy, extras=found)


def _layout(
    method: Method,
    lengths: Tensor,
    sizes: list[int],
    weight: Tensor | None,
    probability: Tensor | None,
    margin: Tensor | None,
) -> Layout:
    chosen, rejected = sizes[0], sum(sizes[1:])
    columns = {"weight": weight, "probability": probability, "margin": margin}
    given = {name: torch.as_tensor(value) for name, value in columns.items() if value is not None}
    if chosen == rejected:
        for name, value in given.items():
            if value.shape != (chosen,):
                raise UserError(f"has shape {_shape(value)}, not [{chosen}]", where=name)
        pairs = Layout.of_pairs(lengths[:chosen], lengths[chosen:])
        return replace(pairs, **{name: value.to(lengths.device) for name, value in given.items()})
    if given:
        raise UserError(
            f"belongs to pairs, and these {chosen} and {rejected} responses are unpaired", where=next(iter(given))
        )
    index = torch.arange(chosen + rejected, device=lengths.device)
    none = index[:0]
    return Layout(
        lengths=lengths,
        prompt=index,
        winner=none,
        loser=none,
        edge_list=none,
        weight=none.float(),
        probability=none.float(),
        margin=none.float(),
        desirable=torch.where(index < chosen, 1, -1),
        key=index,
    )


def _output(outcome: Outcome, layout: Layout, chosen: int) -> LossOutput:
    counts = layout.counts()
    terms = {
        term.name: (term.coefficient * term.values.sum() / max(counts[term.unit], 1.0)).detach()
        for term in outcome.terms
        if term.values.numel()
    }
    unpaired = layout.edges == 0
    return LossOutput(
        loss=outcome.loss(counts),
        per_pair=outcome.terms[-1].values if unpaired else outcome.per_edge,
        margins=outcome.margins,
        chosen_rewards=outcome.rewards[:chosen],
        rejected_rewards=outcome.rewards[chosen:],
        terms=terms,
    )


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
