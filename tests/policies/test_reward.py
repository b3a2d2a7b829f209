"""Reward models as policies: which state is read, heads, gates, both kinds of transformer, saving and opening again."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from rather.data.types import Auxiliary, Comparison, Edge
from rather.errors import UserError
from rather.objectives.embedding import EMBEDDING, GATE
from rather.objectives.scores import Scores
from rather.policies.registry import open_policy
from rather.policies.reward import HEADS, SPEC, RewardPolicy, head_of
from rather.policies.settings import PolicySettings
from tiny import tiny_encoder

Opened = Callable[..., RewardPolicy]


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_encoder(tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture
def open_reward(model_folder: Callable[..., str], encoder_folder: str) -> Opened:
    """``open_reward("llama", "head=gpm&dim=4", lora=True)``; ``"bert"`` is the encoder."""

    def get(kind: str = "llama", query: str = "", **settings: Any) -> RewardPolicy:
        folder = encoder_folder if kind == "bert" else settings.pop("folder", None) or model_folder(kind)
        name = f"reward:{folder}?{query}" if query else f"reward:{folder}"
        found = open_policy(PolicySettings(**{"model": name, "precision": "fp32", **settings}))
        assert isinstance(found, RewardPolicy)
        return found

    return get


def scored(policy: RewardPolicy, comparisons: list[Comparison]) -> Scores:
    return policy.score(policy.network, policy.collate(policy.encode(comparisons)), None)


@pytest.fixture
def lists(pairs: list[Comparison]) -> list[Comparison]:
    three = Comparison("three", "Name a river", ("Blue", "The long water, friend.", "no"), (Edge(0, 1), Edge(1, 2)))
    return [*pairs, three]


@pytest.mark.parametrize("query", ["", "head=gpm&dim=4", "head=gpm&dim=6&gate=none&l2=on"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_a_shared_prompt_gives_what_a_row_for_each_response_gives(
    open_reward: Opened, lists: list[Comparison], kind: str, query: str
) -> None:
    shared, padded = (open_reward(kind, query, encoding=encoding) for encoding in ("auto", "padded"))
    assert (shared.form, padded.form) == ("shared", "padded")
    found = []
    for policy in (shared, padded):
        scores = scored(policy, lists)
        values = torch.cat([scores.elements[:, None], *scores.extras.values()], 1)
        (values * torch.linspace(0.5, 1.5, values.numel()).reshape(values.shape)).sum().backward()
        weights = dict(policy.network.named_parameters())
        norm = next(p.grad for p in weights.values() if p.dim() == 1 and p.grad is not None)
        found.append((values.detach(), norm))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5)


def test_the_reward_is_a_linear_function_of_the_last_tokens_state(
    open_reward: Opened, pairs: list[Comparison]
) -> None:
    policy = open_reward(query="head=gpm&dim=4")
    network: Any = policy.network
    encoded = policy.encode(pairs)
    scores = policy.score(network, policy.collate(encoded), None)
    row = 0
    for item in encoded:
        (tokens,) = item.inputs
        for response in tokens.responses:
            ids = torch.tensor([[*tokens.prompt, *response]])
            states = network.scorer.causal_lm.model(input_ids=ids)[0][0]
            unit = normalize(states[-1] @ network.head.weight.T, dim=-1)
            torch.testing.assert_close(scores.extras[EMBEDDING][row], unit, rtol=1e-3, atol=1e-4)
            gate = (states[len(tokens.prompt) - 1] @ network.gate.weight.T).softmax(-1)
            torch.testing.assert_close(scores.extras[GATE][row], gate, rtol=1e-3, atol=1e-4)
            row += 1
    assert row == len(scores.elements) and not scores.elements.any()


@pytest.mark.parametrize(("kind", "encoding"), [("llama", "auto"), ("llama", "padded"), ("bert", "auto")])
def test_auxiliary_responses_have_rewards_of_their_own(
    open_reward: Opened, pairs: list[Comparison], kind: str, encoding: str
) -> None:
    policy = open_reward(kind, encoding=encoding)
    other = ({"role": "user", "content": "Another question"},)
    full = pairs[0].with_auxiliary([Auxiliary("intra", "It is short.", prompt=other), Auxiliary("inter", "Long.")])
    alone = [pairs[0], replace(pairs[0], responses=("Long.",), edges=())]
    alone.append(replace(pairs[0], prompt=other, responses=("It is short.",), edges=()))
    expected = torch.cat([scored(policy, [one]).elements for one in alone])
    torch.testing.assert_close(scored(policy, [full]).elements, expected, rtol=1e-4, atol=1e-5)


def test_an_encoder_reads_prompt_and_response_together(open_reward: Opened, pairs: list[Comparison]) -> None:
    policy = open_reward("bert", "head=gpm&dim=4&gate=softmax_mean1")
    network: Any = policy.network
    (item,) = policy.encode(pairs[:1])
    scores = policy.score(network, policy.collate([item]), None)
    begin, end = (policy.encoder.tokenizer.convert_tokens_to_ids(name) for name in ("<|begin|>", "<|endoftext|>"))
    (tokens,) = item.inputs
    prompt = [*tokens.prompt.tolist(), end]
    assert prompt[0] == begin

    def mean(ids: list[int]) -> Tensor:
        return network.scorer.causal_lm(input_ids=torch.tensor([ids]))[0][0].mean(0)

    for row, response in enumerate(tokens.responses):
        unit = normalize(mean([*prompt, *response.tolist(), end]) @ network.head.weight.T, dim=-1)
        torch.testing.assert_close(scores.extras[EMBEDDING][row], unit, rtol=1e-3, atol=1e-4)
        # The gate reads the prompt alone: the states of an encoder see both sides.
        gate = 2 * ((mean(prompt) @ network.gate.weight.T) / network.gate.in_features**0.5).softmax(-1)
        torch.testing.assert_close(scores.extras[GATE][row], gate, rtol=1e-3, atol=1e-4)
    assert scores.extras[GATE].sum(1).tolist() == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize("query", ["", "pooling=cls", "pooling=last", "head=gpm&dim=4"])
def test_an_encoders_padding_is_not_seen(open_reward: Opened, lists: list[Comparison], query: str) -> None:
    policy = open_reward("bert", query)
    together = scored(policy, lists)
    alone = [scored(policy, [comparison]) for comparison in lists]
    torch.testing.assert_close(torch.cat([s.elements for s in alone]), together.elements, rtol=1e-4, atol=1e-6)
    for name, rows in together.extras.items():
        torch.testing.assert_close(torch.cat([s.extras[name] for s in alone]), rows, rtol=1e-4, atol=1e-5)


def test_pooling_says_which_state(open_reward: Opened, pairs: list[Comparison]) -> None:
    found = [scored(open_reward("bert", f"pooling={name}"), pairs).elements for name in ("mean", "cls", "last")]
    assert all((one - other).abs().max() > 1e-4 for one, other in itertools.pairwise(found))
    assert torch.equal(found[0], scored(open_reward("bert"), pairs).elements)


@pytest.mark.parametrize(
    ("query", "unit"),
    [
        ("head=gpm", True),
        ("head=gpm&gate=none", False),
        ("head=gpm&gate=none&l2=on", True),
        ("head=gpm&l2=off", False),
    ],
)
def test_unit_length_goes_with_the_gate(open_reward: Opened, pairs: list[Comparison], query: str, unit: bool) -> None:
    scores = scored(open_reward("bert", query), pairs)
    assert bool(((scores.extras[EMBEDDING].norm(dim=-1) - 1).abs() < 1e-5).all()) is unit
    assert (GATE in scores.extras) is ("none" not in query)


def test_fresh_heads(open_reward: Opened) -> None:
    first, same, other = (open_reward("bert", f"head=gpm&dim=64&seed={seed}").network for seed in (0, 0, 1))
    weights: list[Any] = [network.head.weight for network in (first, same, other)]  # type: ignore[union-attr]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx(1 / 33, rel=0.1)


def test_what_is_trained(open_reward: Opened, pairs: list[Comparison]) -> None:
    """Everything but an output layer of its own, which nothing would reach; with adapters those and the heads."""
    for settings in ({}, {"lora": True}):
        for kind in ("llama", "bert"):
            policy = open_reward(kind, "head=gpm&dim=4", **settings)
            scores = scored(policy, pairs)
            sum(extra.square().sum() for extra in scores.extras.values()).backward()  # type: ignore[union-attr]
            reached = {name for name, p in policy.network.named_parameters() if p.grad is not None}
            assert reached == {name for name, p in policy.network.named_parameters() if p.requires_grad}
            assert {"head.weight", "gate.weight"} <= reached
            assert bool([name for name in reached if "lora_" in name]) is bool(settings)
    network: Any = open_reward().network
    assert not network.scorer.causal_lm.lm_head.weight.requires_grad


@pytest.mark.parametrize("settings", [{}, {"lora": True, "lora_rank": 2}], ids=["whole", "lora"])
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_saved_model_opens_and_scores_the_same(
    open_reward: Opened, lists: list[Comparison], tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    policy = open_reward(kind, "head=gpm&dim=4", **settings)
    trained = [p for p in policy.network.parameters() if p.requires_grad]
    scored(policy, lists).extras[EMBEDDING][:, 0].sum().backward()
    torch.optim.SGD(trained, 0.5).step()
    policy.save(policy.network, tmp_path / "model")
    assert {SPEC, HEADS} <= {path.name for path in (tmp_path / "model").iterdir()}
    again = open_reward(folder=tmp_path / "model")
    assert again.options == policy.options and again.form == policy.form
    for name, rows in scored(policy, lists).extras.items():
        torch.testing.assert_close(scored(again, lists).extras[name], rows, rtol=1e-5, atol=1e-6)
    assert head_of(f"reward:{tmp_path / 'model'}") == "gpm"


def test_a_saved_causal_model_is_one_of_transformers(open_reward: Opened, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    policy = open_reward()
    policy.save(policy.network, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    own: Any = policy.network
    assert torch.equal(model.get_input_embeddings().weight, own.scorer.causal_lm.get_input_embeddings().weight)


def test_fingerprint_hears_of_the_heads(open_reward: Opened) -> None:
    prints = {open_reward("bert", query).fingerprint() for query in ("", "seed=1", "pooling=cls", "head=gpm&dim=4")}
    assert len(prints) == 4
    assert open_reward("bert").fingerprint() in prints


@pytest.mark.parametrize(
    ("kind", "query", "message"),
    [
        ("llama", "head=gpm&dim=5", "even number"),
        ("llama", "dim=4", "dim is an option of an embedding"),
        ("llama", "head=dpo", "head=dpo"),
        ("llama", "heads=gpm", "did you mean 'head'"),
        ("llama", "pooling=mean", "for encoders"),
    ],
)
def test_mistakes(open_reward: Opened, kind: str, query: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_reward(kind, query)


def test_a_trained_head_cannot_be_chosen_again(open_reward: Opened, tmp_path: Path) -> None:
    policy = open_reward("bert")
    policy.save(policy.network, tmp_path / "model")
    with pytest.raises(UserError, match="has its head already"):
        open_policy(PolicySettings(model=f"reward:{tmp_path / 'model'}?head=gpm"))
    (tmp_path / "model" / SPEC).write_text('{"head": 3}')
    with pytest.raises(UserError, match="not the description of a head"):
        open_policy(PolicySettings(model=f"reward:{tmp_path / 'model'}"))


def test_a_model_that_encodes_and_decodes_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config(d_model=8, num_layers=1).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="encode and decode"):
        open_policy(PolicySettings(model=f"reward:{tmp_path}"))


def test_an_adapter_of_a_language_model_can_carry_a_head(
    open_reward: Opened, pairs: list[Comparison], tmp_path: Path, model_folder: Callable[..., str]
) -> None:
    tuned = open_policy(PolicySettings(model=model_folder("llama"), lora=True, precision="fp32"))
    tuned.save(tuned.network, tmp_path / "adapter")
    policy = open_reward(folder=tmp_path / "adapter")
    assert any("lora_" in name and p.requires_grad for name, p in policy.network.named_parameters())
    torch.testing.assert_close(scored(policy, pairs).elements, scored(open_reward(), pairs).elements)


def test_an_encoders_rows_fit_its_positions(open_reward: Opened) -> None:
    policy = open_reward("bert", "head=gpm&dim=4")
    long = Comparison("long", "Why is the mountain blue? " * 60, ("It is far.", "Because."), (Edge(0, 1),))
    encoded = policy.encode([long])
    assert policy.report.truncated == 1
    assert policy.collate(encoded).inputs["input_ids"].shape[1] == 128
    assert torch.isfinite(scored(policy, [long]).extras[EMBEDDING]).all()
    policy = open_reward("bert", max_length=64)
    assert policy.collate(policy.encode([long])).inputs["input_ids"].shape[1] == 64
