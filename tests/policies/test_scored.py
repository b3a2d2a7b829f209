"""Extras of a language model's scores: states, layers, activations, and the divergence from a reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from rather.data.types import Comparison
from rather.objectives.scores import Scores
from rather.policies.activations import kinds, points
from rather.policies.divergence import token_kl
from rather.policies.head import LogitForm
from rather.policies.language import LanguagePolicy
from rather.training.references import AdaptersOff, Frozen

Open = Callable[..., LanguagePolicy]
KINDS = ["llama", "gpt2", "gemma2", "qwen3", "mistral", "bloom", "opt"]


def plain_kl(h: torch.Tensor, head: nn.Linear, form: LogitForm, r: torch.Tensor, other: nn.Linear) -> torch.Tensor:
    p, q = form(head(h)).log_softmax(-1), form(other(r)).log_softmax(-1).detach()
    return (q.exp() * (q - p)).sum(-1)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("form", [LogitForm(), LogitForm(0.7, 3.0)])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_divergence_is_that_of_whole_logits(trained: bool, form: LogitForm, chunk: int) -> None:
    torch.manual_seed(0)
    head, other = nn.Linear(5, 17).double(), nn.Linear(6, 17, bias=False).double()
    head.requires_grad_(trained)
    h, r = torch.randn(11, 5, dtype=torch.float64, requires_grad=True), torch.randn(11, 6, dtype=torch.float64)
    weights = torch.randn(11, dtype=torch.float64)
    inputs = [h, *(head.parameters() if trained else ())]

    def reference_head(x: torch.Tensor) -> torch.Tensor:
        return form(other(x))

    found = token_kl(h, head, form, r, reference_head, chunk=chunk)
    expected = plain_kl(h, head, form, r, other)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert (found > 0).all()
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)
    assert torch.autograd.gradcheck(lambda x: token_kl(x, head, form, r, reference_head, chunk=chunk), (h,))


@pytest.mark.parametrize("trained", [False, True])
def test_divergence_never_holds_more_than_a_chunk_of_logits(trained: bool) -> None:
    head = nn.Linear(4, 1000).requires_grad_(trained)
    seen: list[int] = []
    head.register_forward_hook(lambda _module, _args, output: seen.append(len(output)))
    h = torch.randn(50, 4, requires_grad=True)
    token_kl(h, head, LogitForm(), h.detach(), head, chunk=8).sum().backward()
    assert max(seen) == 8
    assert h.grad is not None
    torch.testing.assert_close(h.grad, torch.zeros_like(h), atol=1e-7, rtol=0)  # both agree


def test_an_empty_batch_diverges_nowhere() -> None:
    for trained in (False, True):
        head = nn.Linear(4, 9).requires_grad_(trained)
        assert token_kl(torch.zeros(0, 4), head, LogitForm(), torch.zeros(0, 4), head).shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["shared", "padded"])
@pytest.mark.filterwarnings("ignore:.*cannot share a prompt")
def test_states_and_layers_are_the_models(open_tiny: Open, pairs: list[Comparison], kind: str, encoding: str) -> None:
    policy = open_tiny(kind, encoding=encoding)
    encoded = policy.encode(pairs)
    batch = policy.collate(encoded)
    scores = policy.score(policy.network, batch, None, wants=frozenset({"states", "layers"}))
    facts = policy.facts()
    assert scores.extras["layers"].shape == (len(scores.elements), facts["layers"], facts["width"])
    assert scores.extras["states"].requires_grad
    assert scores.head is not None
    logps = scores.head(scores.extras["states"]).log_softmax(-1)
    torch.testing.assert_close(
        logps.gather(1, scores.extras["ids"][:, None])[:, 0], scores.elements, atol=1e-4, rtol=1e-4
    )
    assert not logps.requires_grad
    index = 0
    for (tokens,) in (e.inputs for e in encoded):
        for response in tokens.responses:
            ids = torch.tensor([*tokens.prompt.tolist(), *response.tolist()])[None]
            states = policy.model(ids, output_hidden_states=True).hidden_states[1:]
            place = slice(len(tokens.prompt) - 1, len(tokens.prompt) + len(response) - 1)
            mine = scores.response == index
            expected = torch.stack([layer[0, place] for layer in states], 1)
            torch.testing.assert_close(scores.extras["layers"][mine], expected, atol=2e-4, rtol=1e-3)
            index += 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*cannot share a prompt")
def test_activations_are_means_at_the_named_points(open_tiny: Open, pairs: list[Comparison], kind: str) -> None:
    policy = open_tiny(kind)
    batch = policy.collate(policy.encode(pairs))
    scores = policy.score(policy.network, batch, None, wants=frozenset({"activations", "layers", "states"}))
    found, columns = scores.extras["activations"], kinds(policy._scorer.causal_lm)
    assert policy.facts()["activations"] == columns
    assert found.shape == (len(scores.elements), len(columns))
    assert set(columns) == {"resid", "attn", "mlp", "logits"}
    layers = policy.facts()["layers"]
    assert columns.count("mlp") == layers
    assert columns.count("resid") == layers + 2
    assert columns.count("attn") == layers * (2 if kind in ("gpt2", "bloom") else 4)
    assert scores.head is not None
    mean_logit = scores.head(scores.extras["states"]).mean(-1)
    torch.testing.assert_close(found[:, -1], mean_logit, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[:, -2], scores.extras["states"].mean(-1), atol=1e-6, rtol=1e-4)
    resid = [i for i, name in enumerate(columns) if name == "resid"][1:-1]
    torch.testing.assert_close(found[:, resid[0]], scores.extras["layers"][:, 0].mean(-1), atol=1e-6, rtol=1e-4)
    places = points(policy._scorer.causal_lm)
    before = [sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in policy.network.modules())]
    policy.score(policy.network, batch, None, wants=frozenset({"activations"}))
    assert before == [sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in policy.network.modules())]
    assert len(places) == len(columns) - 2


def whole_kl(policy: LanguagePolicy, other: LanguagePolicy, pairs: list[Comparison]) -> torch.Tensor:
    parts = []
    for (tokens,) in (e.inputs for e in policy.encode(pairs)):
        for response in tokens.responses:
            ids = torch.tensor([*tokens.prompt.tolist(), *response.tolist()])[None]
            place = slice(len(tokens.prompt) - 1, len(tokens.prompt) + len(response) - 1)
            p, q = (each.model(ids).logits[0, place].log_softmax(-1) for each in (policy, other))
            parts.append((q.exp() * (q - p)).sum(-1))
    return torch.cat(parts)


def moved(policy: LanguagePolicy, spread: float = 0.02) -> LanguagePolicy:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.network.parameters():
            if parameter.requires_grad:
                parameter += spread * torch.randn_like(parameter)
    return policy


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_divergence_from_a_frozen_copy(open_tiny: Open, pairs: list[Comparison], kind: str) -> None:
    policy, before = open_tiny(kind), open_tiny(kind)
    frozen = Frozen(policy, frozenset({"states"}))
    moved(policy)
    batch = policy.collate(policy.encode(pairs))
    reference = frozen.score(batch, None)
    scores = policy.score(policy.network, batch, None, wants=frozenset({"kl"}), reference=reference)
    expected = whole_kl(policy, before, pairs)
    torch.testing.assert_close(scores.extras["kl"], expected, atol=1e-5, rtol=1e-4)
    wanted = [p for p in policy.network.parameters() if p.requires_grad]
    for a, b in zip(
        torch.autograd.grad(scores.extras["kl"].sum(), wanted),
        torch.autograd.grad(expected.sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("targets", ["all-linear", "q_proj,lm_head"])
def test_divergence_with_adapters_switched_off(open_tiny: Open, pairs: list[Comparison], targets: str) -> None:
    """An adapted output layer is switched off in the reference's head too, though it is used while adapters are on."""

    class Bare(nn.Module):
        def __init__(self, policy: LanguagePolicy) -> None:
            super().__init__()
            self.policy, self.network = policy, policy.network

        def forward(self, batch: object, draw: object) -> Scores:
            return self.policy.score(self.network, batch, draw, wants=frozenset({"states"}))  # type: ignore[arg-type]

    policy, before = open_tiny(lora=True, lora_targets=targets), open_tiny()
    moved(policy, 0.1)
    batch = policy.collate(policy.encode(pairs))
    reference = AdaptersOff(Bare(policy), policy).score(batch, None)
    scores = policy.score(policy.network, batch, None, wants=frozenset({"kl"}), reference=reference)
    torch.testing.assert_close(scores.extras["kl"], whole_kl(policy, before, pairs), atol=1e-5, rtol=1e-4)
    assert float(scores.extras["kl"].detach().mean()) > 1e-3
    scores.extras["kl"].sum().backward()
    assert all(p.grad is not None for p in policy.network.parameters() if p.requires_grad)


def test_detached_scores_hold_no_graph(open_tiny: Open, pairs: list[Comparison]) -> None:
    policy = open_tiny()
    batch = policy.collate(policy.encode(pairs))
    scores = policy.score(policy.network, batch, None, wants=frozenset({"states", "layers"}))
    assert not any(value.requires_grad for value in (scores.detach().elements, *scores.detach().extras.values()))
    assert replace(scores, extras={}).head is scores.head


def test_the_whole_form_gives_no_states(open_tiny: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from rather.policies import language

    monkeypatch.setattr(language, "choose_form", lambda *_: ("full", None))
    policy = open_tiny()
    assert policy.provides == {"likelihood", "tokens", "auxiliary", "weight"}
