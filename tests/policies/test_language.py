"""The language policy as the training loop uses it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rather.data.types import Auxiliary, Comparison, Edge
from rather.errors import UserError
from rather.policies.language import LanguagePolicy
from rather.policies.models import load_causal_lm, load_tokenizer
from rather.policies.registry import open_policy, register_policy
from rather.policies.settings import PolicySettings
from tiny import tiny_lm, tiny_tokenizer

Open = Callable[..., LanguagePolicy]


def scores_of(policy: LanguagePolicy, comparisons: list[Comparison]) -> torch.Tensor:
    batch = policy.collate(policy.encode(comparisons))
    return policy.score(policy.network, batch, policy.draw(batch, 0)).elements


@pytest.mark.parametrize("encoding", ["shared", "padded"])
def test_scores_are_the_models_log_probabilities(open_tiny: Open, pairs: list[Comparison], encoding: str) -> None:
    """Against the model and the template called by hand."""
    policy = open_tiny(encoding=encoding)
    batch = policy.collate(policy.encode(pairs))
    scores = policy.score(policy.network, batch, None)
    index = 0
    for pair in pairs:
        for response in pair.responses:
            ask = policy.tokenizer.apply_chat_template(list(pair.prompt), add_generation_prompt=True, tokenize=False)
            turns = [*pair.prompt, {"role": "assistant", "content": response}]
            said = policy.tokenizer.apply_chat_template(turns, tokenize=False)
            start = len(policy.tokenizer(ask).input_ids)
            ids = torch.tensor(policy.tokenizer(said).input_ids)
            logps = policy.model(ids[None]).logits[0].log_softmax(-1)
            expected = logps[range(start - 1, len(ids) - 1), ids[start:]]
            mine = scores.response == index
            assert scores.extras["ids"][mine].tolist() == ids[start:].tolist()
            torch.testing.assert_close(scores.elements[mine], expected, atol=1e-5, rtol=1e-5)
            index += 1
    assert batch.layout.lengths.tolist() == torch.bincount(scores.response).tolist()
    assert batch.ids == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize("kind", ["llama", "mistral", "bloom"])
@pytest.mark.parametrize("encoding", ["auto", "padded"])
@pytest.mark.filterwarnings("ignore:.*cannot share a prompt")
def test_scores_do_not_depend_on_the_batch(open_tiny: Open, pairs: list[Comparison], kind: str, encoding: str) -> None:
    policy = open_tiny(kind, encoding=encoding)
    together = scores_of(policy, pairs)
    alone = torch.cat([scores_of(policy, [pair]) for pair in pairs])
    backwards = torch.cat([scores_of(policy, [pair]) for pair in pairs[::-1]][::-1])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together, backwards, atol=1e-5, rtol=1e-5)


def test_both_encodings_agree_and_cost_what_they_compute(open_tiny: Open, pairs: list[Comparison]) -> None:
    shared, padded = open_tiny(), open_tiny(encoding="padded")
    assert (shared.form, padded.form) == ("shared", "padded")
    torch.testing.assert_close(scores_of(shared, pairs), scores_of(padded, pairs), atol=1e-5, rtol=1e-5)
    for a, b in zip(shared.encode(pairs), padded.encode(pairs), strict=True):
        assert a.cost == len(a.inputs[0].prompt) + sum(a.lengths)
        assert b.cost == 2 * len(a.inputs[0].prompt) + sum(a.lengths)
    assert shared.collate(shared.encode(pairs)).inputs["input_ids"].numel() == sum(
        e.cost for e in shared.encode(pairs)
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_saved_model_scores_the_same(open_tiny: Open, pairs: list[Comparison], kind: str, tmp_path: Path) -> None:
    policy = open_tiny(kind)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    expected = scores_of(policy, pairs)
    policy.save(policy.network, tmp_path / "out")
    assert not [f.name for f in (tmp_path / "out").iterdir() if f.suffix in (".bin", ".pt", ".pkl")]
    again = open_tiny(folder=tmp_path / "out")
    assert torch.equal(scores_of(again, pairs), expected)
    lm, tokenizer = load_causal_lm(str(tmp_path / "out")), load_tokenizer(str(tmp_path / "out"))
    ids = tokenizer("the river", return_tensors="pt").input_ids
    torch.testing.assert_close(lm(ids).logits, policy.model(ids).logits, atol=1e-5, rtol=1e-5)
    assert "rather" not in (tmp_path / "out" / "config.json").read_text()  # no trace of the attention's name


def test_fingerprint_changes_with_what_decides_a_score(
    open_tiny: Open, model_folder: Callable[..., str], pairs: list[Comparison]
) -> None:
    plain = open_tiny().fingerprint()
    assert open_tiny().fingerprint() == plain
    assert open_tiny(lora=True).fingerprint() == plain  # a fresh adapter changes nothing
    others = [
        open_tiny(max_length=100),
        open_tiny(truncation="drop"),
        open_tiny(template="none"),
        open_tiny(precision="bf16"),
        open_tiny(folder=model_folder("llama", seed=1)),
        open_tiny("mistral"),
    ]
    seen = {plain, *(policy.fingerprint() for policy in others)}
    assert len(seen) == len(others) + 1
    policy = open_tiny()
    scores_of(policy, pairs).sum().backward()
    torch.optim.SGD(policy.network.parameters(), 0.1).step()
    assert policy.fingerprint() == plain  # of the model as loaded


def test_training_raises_the_chosen(open_tiny: Open, pairs: list[Comparison]) -> None:
    from rather.methods.dpo import METHOD

    policy = open_tiny()
    batch = policy.collate(policy.encode(pairs))
    with torch.no_grad():
        reference = policy.score(policy.network, batch, None)
    objective = METHOD.objective(beta=0.5)
    optimizer = torch.optim.Adam(policy.network.parameters(), 3e-3)
    losses = []
    for _ in range(15):
        loss = objective(policy.score(policy.network, batch, None), reference, batch.layout).loss(
            batch.layout.counts()
        )
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < 0.1


def test_a_wrapped_and_a_copied_network_score_alike(open_tiny: Open, pairs: list[Comparison]) -> None:
    class Wrapper(torch.nn.Module):
        """Acts through its own forward, as DDP does."""

        calls = 0

        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, **inputs: object) -> object:
            Wrapper.calls += 1
            return self.module(**inputs)

    policy = open_tiny()
    batch = policy.collate(policy.encode(pairs))
    expected = policy.score(policy.network, batch, None).elements
    assert torch.equal(policy.score(Wrapper(policy.network), batch, None).elements, expected)
    assert Wrapper.calls == 1
    assert torch.equal(policy.score(copy.deepcopy(policy.network), batch, None).elements, expected)


@pytest.mark.parametrize("encoding", ["shared", "padded"])
@pytest.mark.parametrize("lora", [False, True])
def test_gradient_checkpointing_changes_nothing(
    open_tiny: Open, pairs: list[Comparison], encoding: str, lora: bool
) -> None:
    gradients = []
    for checkpointing in (False, True):
        policy = open_tiny(encoding=encoding, gradient_checkpointing=checkpointing, lora=lora)
        policy.network.train()
        scores_of(policy, pairs).sum().backward()
        gradients.append([p.grad for p in policy.network.parameters() if p.requires_grad])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_checkpointing_of_a_share_computes_the_first_layers_again(open_tiny: Open, pairs: list[Comparison]) -> None:
    from rather.policies.activations import decoder_layers

    gradients, calls = [], []
    for share in (1.0, 0.5, None):
        policy = open_tiny(**({} if share is None else {"gradient_checkpointing": True, "checkpoint_share": share}))
        layers = decoder_layers(policy.model)
        assert len(layers) > 1
        counted = [0] * len(layers)
        for number, layer in enumerate(layers):
            inside = next(module for module in layer.modules() if isinstance(module, torch.nn.Linear))

            def count(*_: Any, number: int = number, seen: list[int] = counted) -> None:
                seen[number] += 1

            inside.register_forward_hook(count)
        policy.network.train()
        scores_of(policy, pairs).sum().backward()
        gradients.append([p.grad for p in policy.network.parameters() if p.requires_grad])
        calls.append(counted)
    layers = len(calls[0])
    first = -(-layers // 2)
    assert calls == [[2] * layers, [2] * first + [1] * (layers - first), [1] * layers]
    for whole, half, none in zip(*gradients, strict=True):
        torch.testing.assert_close(half, whole, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(half, none, atol=1e-5, rtol=1e-5)


def test_training_mode_has_no_dropout(open_tiny: Open, pairs: list[Comparison]) -> None:
    policy = open_tiny("gpt2")  # dropout 0.1 by its configuration
    expected = scores_of(policy, pairs)
    policy.network.train()
    assert torch.equal(scores_of(policy, pairs), expected)


def test_bfloat16_scores_are_float32_and_near(open_tiny: Open, pairs: list[Comparison]) -> None:
    exact = scores_of(open_tiny(), pairs)
    policy = open_tiny(precision="bf16")
    found = scores_of(policy, pairs)
    assert found.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in policy.network.parameters())
    assert 0 < float((found - exact).abs().max()) < 0.2


@pytest.mark.parametrize("encoding", ["auto", "padded"])
def test_auxiliary_responses_score_as_responses_of_their_own(
    open_tiny: Open, pairs: list[Comparison], encoding: str
) -> None:
    policy = open_tiny(encoding=encoding)
    other = ({"role": "user", "content": "Another question"},)
    full = pairs[0].with_auxiliary(
        [Auxiliary("rationale", "It is short.", prompt=other), Auxiliary("degree", "Long.", label=1)]
    )
    alone = [pairs[0], replace(pairs[0], responses=("Long.",), edges=())]
    alone.append(replace(pairs[0], prompt=other, responses=("It is short.",), edges=()))
    # Behind what was compared: first what shares its prompt, then the other prompt.
    expected = torch.cat([scores_of(policy, [one]) for one in alone])
    torch.testing.assert_close(scores_of(policy, [full]), expected, rtol=1e-5, atol=1e-5)


def test_sampling_in_low_precision_leaves_the_weights_alone(open_tiny: Open, pairs: list[Comparison]) -> None:
    policy = open_tiny(precision="bf16")
    before = {name: parameter.clone() for name, parameter in policy.model.named_parameters()}
    ids = torch.tensor([[1, 5, 7, 9]])
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            expected = policy.model(input_ids=ids).logits
        with policy.sampling():
            assert policy.model.get_decoder().layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
            assert torch.equal(policy.model(input_ids=ids).logits, expected)
    for name, parameter in policy.model.named_parameters():
        assert parameter.dtype == torch.float32 and torch.equal(parameter, before[name])


def test_entropy_on_request(pairs: list[Comparison]) -> None:
    tokenizer = tiny_tokenizer()
    policy = LanguagePolicy(tiny_lm(vocab_size=len(tokenizer)), tokenizer, PolicySettings(model="x", precision="fp32"))
    batch = policy.collate(policy.encode(pairs))
    entropy = policy.score(policy.network, batch, None, wants=frozenset({"entropy"})).extras["entropy"]
    assert entropy.shape == batch.inputs["targets"].shape
    assert float(entropy.min()) > 0


def test_length_is_bounded_by_the_models_context(open_tiny: Open) -> None:
    policy = open_tiny(max_length=100_000)
    long = Comparison("x", "the " * 2000, ("a", "b"), (Edge(0, 1),))
    (encoded,) = policy.encode([long])
    assert len(encoded.inputs[0].prompt) + max(encoded.lengths) == 512
    assert torch.isfinite(policy.score(policy.network, policy.collate([encoded]), None).elements).all()
    assert policy.report.truncated == 1
    policy.encode([replace(long, prompt="hi")])
    assert policy.report.truncated == 0  # anew each time


def test_registry(model_folder: Callable[..., str]) -> None:
    assert open_policy(PolicySettings(model=model_folder())).kind == "language"
    with pytest.raises(UserError, match="no kind of policy"):
        open_policy(PolicySettings(model="nonsense:thing"))
    marker = object()
    register_policy("test_only", lambda settings: marker)  # type: ignore[arg-type, return-value]
    assert open_policy(PolicySettings(model="test_only:a")) is marker


@pytest.mark.skipif("RATHER_HH_PAIRS" not in os.environ, reason="RATHER_HH_PAIRS names no file of real pairs")
def test_real_pairs_are_tokenized_quickly() -> None:
    import gzip
    import json
    import time

    with gzip.open(os.environ["RATHER_HH_PAIRS"], "rt") as file:
        rows = [json.loads(line) for line in file]
    marker = "\n\nAssistant:"
    comparisons = []
    for i, row in enumerate(rows):
        cut = row["chosen"].rindex(marker) + len(marker)
        if row["rejected"].startswith(row["chosen"][:cut]):
            responses = (row["chosen"][cut:], row["rejected"][cut:])
            comparisons.append(Comparison(str(i), row["chosen"][:cut], responses, (Edge(0, 1),)))
    policy = LanguagePolicy.load(PolicySettings(model="smollm2-135m", template="none"))
    start = time.perf_counter()
    policy.encode(comparisons)
    assert policy.report.encoded > 0.98 * len(comparisons)
    assert time.perf_counter() - start < 30
