"""Conformance of a method: what every method of the library is checked for, for methods of other packages too.

    from rather.testing import check_method
    check_method(METHOD)

A property that a method does not have is declared with its reason in ``Method.exceptions``; the check must then fail,
so that no declaration outlives its reason.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from safetensors.torch import load, save
from torch import Tensor

from rather.data.types import Auxiliary, Comparison, Edge
from rather.methods import dpo
from rather.methods.base import Method
from rather.objectives.base import Objective
from rather.objectives.embedding import OnePlane
from rather.objectives.scores import Layout, Scores

FACTS: Mapping[str, object] = MappingProxyType({"width": 3, "layers": 2, "activations": ("resid", "attn", "mlp")})
"""Of the model that the extras of a case are from."""

AUXILIARY = (
    Auxiliary("rationale", "because"),
    *(Auxiliary("degree", "less", group=side, sign=0.5, label=side) for side in (0, 1)),
    *(Auxiliary("intra", "response 0", sign=sign) for sign in (1.0, -1.0)),
    *(Auxiliary("inter", f"response {side}", sign=sign * (1 - 2 * side)) for sign in (1.0, -1.0) for side in (0, 1)),
)
"""Further responses of every role: an item of each."""

ARXIV = re.compile(r"\b\d{4}\.\d{5}\b")


@dataclass(frozen=True)
class Case:
    """Comparisons with the element scores of each response under policy and reference, in float64 and at most 0.

    Scores bring whatever extras an objective may want; they are functions of the case's own scores of each element.
    """

    comparisons: tuple[Comparison, ...]
    policy: tuple[tuple[Tensor, ...], ...]
    reference: tuple[tuple[Tensor, ...], ...]

    def batch(self, which: Sequence[int] | None = None) -> tuple[Scores, Scores, Layout]:
        """Policy scores, reference scores and layout of the comparisons with these indices."""
        which = range(len(self.comparisons)) if which is None else which
        flat = [[row for index in which for row in side[index]] for side in (self.policy, self.reference)]
        lengths = [row.numel() for row in flat[0]]
        response = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        own, other = (torch.cat(rows) for rows in flat)
        policy, reference = (Scores(x, response, _extras(x, y)) for x, y in ((own, other), (other, own)))
        return policy, reference, Layout.of([self.comparisons[index] for index in which], lengths)


def _extras(own: Tensor, other: Tensor) -> dict[str, Tensor]:
    """Numbers of the shapes and ranges that the extras of real scores have, for ``FACTS``."""
    waves = torch.sin(own[:, None] * torch.arange(1.0, 10.0, dtype=own.dtype))
    return {
        "ids": (-100 * own).long(),
        "weight": 1 + waves[:, 0].abs(),
        "entropy": 1 + waves[:, 1],
        "kl": (own - other).square() / 2,
        "states": waves[:, :3],
        "layers": waves[:, 3:].reshape(-1, 2, 3),
        "activations": waves[:, 4:7],
    }


def make_case(
    sizes: Sequence[int],
    *,
    marks: bool = False,
    seed: int = 0,
    length: int | None = None,
    auxiliary: Sequence[Auxiliary] = (),
) -> Case:
    """A random case.

    Args:
        sizes: responses of each comparison; the first is the winner over all others, and their scores fall.
        marks: mark the responses desirable and undesirable in turn and leave out the edges.
        length: elements of every response; 1 to 5 when left out.
        auxiliary: further responses of every second comparison.
    """
    generator = torch.Generator().manual_seed(seed)

    def elements(count: int) -> Tensor:
        return -0.05 - 2 * torch.rand(count, generator=generator, dtype=torch.float64)

    comparisons, policy, reference = [], [], []
    for index, size in enumerate(sizes):
        further = auxiliary if index % 2 == 0 else ()
        drawn = torch.randint(1, 6, (size + len(further),), generator=generator).tolist()
        counts = [count if length is None else length for count in drawn]
        edges = () if marks else tuple(Edge(0, loser, weight=1 + 0.25 * loser) for loser in range(1, size))
        desirable = tuple((index + k) % 2 == 0 for k in range(size)) if marks else ()
        responses = tuple(f"response {k}" for k in range(size))
        scores = () if marks else tuple(1.5 / (index + 2) - 0.4 * k for k in range(size))
        made = Comparison(f"case-{index}", "prompt", responses, edges, desirable, scores)
        comparisons.append(made.with_auxiliary(further))
        policy.append(tuple(elements(count) for count in counts))
        reference.append(tuple(elements(count) for count in counts))
    return Case(tuple(comparisons), tuple(policy), tuple(reference))


def cases(method: Method, *, length: int | None = None) -> Iterator[Case]:
    """Data of every kind that the method takes."""
    further = AUXILIARY if "auxiliary" in method.needs else ()
    yield make_case([2, 2, 2, 2, 2, 2], seed=1, length=length, auxiliary=further)
    if "lists" in method.needs:
        yield make_case([4, 2, 3, 5], seed=2, length=length, auxiliary=further)
    if method.needs & {"marks", "targets"}:
        yield make_case([1, 1, 2, 1, 3], marks=True, seed=3, length=length, auxiliary=further)


def objective_of(method: Method, **options: object) -> Objective:
    """The method's objective under these options, as a function of the scores of a case."""
    objective = method.objective(**options).eval()
    objective.prepare(FACTS)
    for parameter in objective.parameters():
        parameter.data = parameter.data.double()
    return OnePlane(objective, 0.1) if "embedding" in method.needs else objective


def loss_of(objective: Objective, batch: tuple[Scores, Scores, Layout]) -> Tensor:
    policy, reference, layout = batch
    outcome = objective(policy, reference if objective.needs_reference else None, layout)
    return outcome.loss(layout.counts())


def started(method: Method) -> Objective:
    """The method's objective with defaults, after one optimizer step's observations; its own parameters are moved."""
    objective = objective_of(method)
    generator = torch.Generator().manual_seed(8)
    for parameter in objective.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    policy, reference, layout = make_case([2, 2, 2], seed=9).batch()
    with torch.no_grad():
        outcome = objective(policy, reference if objective.needs_reference else None, layout)
    if outcome.observations:
        objective.advance(outcome.observations)
    return objective


def same(actual: Tensor, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9, msg=lambda text: f"{what}: {text}")


def check_declaration(method: Method) -> None:
    """Equation, source, docstring and options say what they have to."""
    assert method.equation.strip(), "no equation"
    assert method.title.strip(), "no title"
    module = inspect.getmodule(method.build)
    docstring = (module.__doc__ if module else None) or ""
    identifiers = ARXIV.findall(method.source)
    assert method.source.strip(), "no source"
    missing = [identifier for identifier in identifiers if identifier not in docstring]
    assert not missing, f"the docstring of the method's file does not name arXiv {', '.join(missing)}"
    undescribed = [name for name, field in method.options.model_fields.items() if not field.description]
    assert not undescribed, f"options without a description: {undescribed}"
    reference = objective_of(method).needs_reference
    assert ("reference" in method.needs) == reference, f"needs a reference: {reference}, declared otherwise"
    method.configure(method.dpo_limit or {})


def check_gradient(method: Method) -> None:
    """The gradient equals finite differences in float64."""
    for case in cases(method):
        objective, (policy, reference, layout) = started(method), case.batch()
        elements = policy.elements.clone().requires_grad_()

        def loss(elements: Tensor, objective=objective, policy=policy, rest=(reference, layout)) -> Tensor:
            return loss_of(objective, (replace(policy, elements=elements), *rest))

        right = torch.autograd.gradcheck(loss, (elements,), rtol=1e-4, raise_exception=False)
        assert right, "the gradient differs from finite differences"


def check_direction(method: Method) -> None:
    """From equal scores under policy and reference, a step raises the winner relative to the loser."""
    policy, reference, layout = make_case([2], length=3).batch()
    elements = torch.full_like(policy.elements, -1.0).requires_grad_()
    batch = (replace(policy, elements=elements), replace(reference, elements=elements.detach()), layout)
    (gradient,) = torch.autograd.grad(loss_of(objective_of(method), batch), elements)
    win, lose = gradient[:3].sum(), gradient[3:].sum()
    assert win < lose, f"gradient {win:.3g} on the winner, {lose:.3g} on the loser"


def check_dpo_limit(method: Method) -> None:
    """The declared limit equals DPO pair by pair, in value and gradient."""
    if method.dpo_limit is None:
        return
    limit = objective_of(method, **method.dpo_limit)
    beta = vars(method.configure(method.dpo_limit)).get("beta", 0.1)
    plain = dpo.METHOD.objective(beta=beta)
    for index in range(6):
        policy, reference, layout = make_case([2] * 6, seed=4).batch([index])
        policy.elements.requires_grad_()
        if not limit.needs_reference:
            reference = replace(reference, elements=torch.zeros_like(reference.elements))
        ours, theirs = loss_of(limit, (policy, reference, layout)), loss_of(plain, (policy, reference, layout))
        same(ours, theirs, "loss in the limit")
        gradients = [torch.autograd.grad(loss, policy.elements)[0] for loss in (ours, theirs)]
        same(gradients[0], gradients[1], "gradient in the limit")


def check_swap(method: Method) -> None:
    """Exchanging the ends of every edge negates the margins and leaves the rewards."""
    for case in cases(method):
        policy, reference, layout = case.batch()
        swapped = replace(layout, winner=layout.loser, loser=layout.winner)
        one, other = (started(method)(policy, reference, each) for each in (layout, swapped))
        same(other.margins, -one.margins, "margins")
        same(other.rewards, one.rewards, "rewards")


def check_shift(method: Method) -> None:
    """A constant on a response under policy and reference alike changes nothing; without a reference none matters."""
    for case in cases(method):
        policy, reference, layout = case.batch()
        generator = torch.Generator().manual_seed(5)
        shift = -3 * torch.rand(layout.responses, generator=generator, dtype=torch.float64)[policy.response]
        other = replace(reference, elements=reference.elements + shift)
        objective = started(method)
        if objective.needs_reference:
            policy_too = replace(policy, elements=policy.elements + shift)
            same(loss_of(objective, (policy_too, other, layout)), loss_of(objective, case.batch()), "loss")
        else:
            losses = [objective(policy, r, layout).loss(layout.counts()) for r in (None, other)]
            same(losses[0], losses[1], "loss with another reference")


def check_margin_only(method: Method) -> None:
    """A constant on the policy's score of all responses to a prompt changes nothing."""
    for case in cases(method, length=3):
        policy, reference, layout = case.batch()
        shift = -torch.arange(1.0, layout.lists + 1, dtype=torch.float64)[layout.prompt][policy.response]
        moved = replace(policy, elements=policy.elements + shift)
        objective = started(method)
        same(loss_of(objective, (moved, reference, layout)), loss_of(objective, case.batch()), "loss")


def check_extremes(method: Method) -> None:
    """Finite loss and gradient for margins up to 1e4 of log-probability, in float32 and bfloat16."""
    for case in cases(method):
        policy, reference, layout = case.batch()
        zero = torch.zeros_like(reference.elements)
        first = torch.arange(layout.responses) % 2 == 0
        for low in (first, ~first, first & False, first | True):  # which responses are at -1e4; the others are at 0
            scores = torch.where(low, -1e4 / layout.lengths, 0.0)[policy.response]
            for dtype in (torch.float32, torch.bfloat16):
                elements = scores.to(dtype).requires_grad_()
                sides = replace(policy, elements=elements), replace(reference, elements=zero.to(dtype))
                loss = loss_of(started(method), (*sides, layout))
                (gradient,) = torch.autograd.grad(loss, elements)
                assert torch.isfinite(loss), f"loss {loss} at a margin of 1e4 in {dtype}"
                assert torch.isfinite(gradient).all(), f"gradient not finite at a margin of 1e4 in {dtype}"


def check_order(method: Method) -> None:
    """The order of the comparisons in a batch does not matter."""
    for case in cases(method):
        objective = started(method)
        turned = case.batch([*range(1, len(case.comparisons)), 0])
        same(loss_of(objective, turned), loss_of(objective, case.batch()), "loss")


def check_split(method: Method) -> None:
    """Micro-batches under the counts of the whole step add up to the step."""
    for case in cases(method):
        objective, whole = started(method), case.batch()
        counts = whole[2].counts()
        total = torch.zeros((), dtype=torch.float64)
        for part in ([0], [1, 2], range(3, len(case.comparisons))):
            policy, reference, layout = case.batch(part)
            total += objective(policy, reference if objective.needs_reference else None, layout).loss(counts)
        same(total, loss_of(objective, whole), "loss")


def check_packing(method: Method) -> None:
    """Elements may lie in any order (packed, shared, interleaved) as long as they name their response."""
    for case in cases(method):
        policy, reference, layout = case.batch()
        order = torch.randperm(policy.response.numel(), generator=torch.Generator().manual_seed(6))
        moved = [
            Scores(s.elements[order], s.response[order], {name: rows[order] for name, rows in s.extras.items()})
            for s in (policy, reference)
        ]
        objective = started(method)
        same(loss_of(objective, (moved[0], moved[1], layout)), loss_of(objective, case.batch()), "loss")


def check_modality(method: Method) -> None:
    """Tokens and latents with equal scores have equal losses."""
    if method.needs & {"likelihood", "tokens"}:
        return
    for case in cases(method):
        objective = started(method)
        policy, reference, layout = case.batch()
        of_text, of_image = [], []
        for scores in (policy, reference):
            # A two-word vocabulary with the wanted log-probability on the first word, and a latent with the error that
            # has the same score; minus half the squared error is the score of a latent element.
            other = torch.log(-torch.expm1(scores.elements))
            logits = torch.stack([scores.elements, other], dim=1) + 7.0
            of_text.append(replace(scores, elements=logits.log_softmax(1)[:, 0]))
            error = (-2 * scores.elements).sqrt()
            of_image.append(replace(scores, elements=-0.5 * error.square()))
        text = loss_of(objective, (of_text[0], of_text[1], layout))
        same(loss_of(objective, (of_image[0], of_image[1], layout)), text, "loss")


def check_state(method: Method) -> None:
    """Parameters and moving parts survive saving and loading."""
    for case in cases(method):
        objective, copy = started(method), objective_of(method)
        copy.load_state_dict(load(save(objective.state_dict())))
        same(loss_of(copy, case.batch()), loss_of(objective, case.batch()), "loss after loading")


def check_reference(method: Method) -> None:
    """The reference gets no gradient."""
    for case in cases(method):
        policy, reference, layout = case.batch()
        policy.elements.requires_grad_()
        reference.elements.requires_grad_()
        loss = loss_of(started(method), (policy, reference, layout))
        (gradient,) = torch.autograd.grad(loss, reference.elements, allow_unused=True)
        assert gradient is None or not gradient.any(), "the reference got a gradient"


def check_weight(method: Method) -> None:
    """An edge's weight multiplies its part of the loss, and nothing else."""
    for case in cases(method):
        policy, reference, layout = case.batch()
        if not layout.edges:
            continue
        objective = started(method)
        none, one, two = (
            loss_of(objective, (policy, reference, replace(layout, weight=factor * layout.weight)))
            for factor in (0.0, 1.0, 2.0)
        )
        same(two - one, one - none, "twice the weight")
        assert not torch.isclose(one, none), "the weight does not matter"


def check_metrics(method: Method) -> None:
    """Rewards, margins and log-probabilities are detached and of the documented shapes."""
    for case in cases(method):
        policy, reference, layout = case.batch()
        policy.elements.requires_grad_()
        outcome = started(method)(policy, reference, layout)
        for name in ("rewards", "margins", "logps"):
            assert not getattr(outcome, name).requires_grad, f"{name} carries gradient"
        assert outcome.rewards.shape == outcome.logps.shape == (layout.responses,)
        assert outcome.margins.shape == (layout.edges,)
        same(outcome.margins, outcome.rewards[layout.winner] - outcome.rewards[layout.loser], "margins")
        assert outcome.per_edge.shape in {(layout.edges,), (layout.lists,)}
        sums = torch.zeros(layout.responses, dtype=torch.float64).index_add(
            0, policy.response, policy.elements.detach()
        )
        same(outcome.logps, sums, "logps")


CHECKS: Mapping[str, Callable[[Method], None]] = MappingProxyType(
    {name.removeprefix("check_"): value for name, value in list(globals().items()) if name.startswith("check_")}
)
PROPERTIES = tuple(CHECKS)


def check_property(method: Method, name: str) -> None:
    """Run one check; one that the method declares an exception to must fail.

    Raises:
        AssertionError: a property does not hold, or holds in spite of a declared exception.
    """
    if name not in method.exceptions:
        CHECKS[name](method)
        return
    try:
        CHECKS[name](method)
    except AssertionError:
        return
    raise AssertionError(f"{method.name!r} declares an exception to {name!r}, but the property holds")


def check_method(method: Method, properties: Iterable[str] = PROPERTIES) -> None:
    """Check a method for every property.

    Raises:
        AssertionError: lists each property that does not hold, with what was seen.
    """
    failures = [f"exception to an unknown property {name!r}" for name in set(method.exceptions) - set(PROPERTIES)]
    for name in properties:
        try:
            check_property(method, name)
        except AssertionError as failure:
            failures.append(f"{name}: {failure}")
    assert not failures, f"method {method.name!r}\n" + "\n".join(failures)
