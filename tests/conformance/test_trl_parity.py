"""The same numbers as TRL: its own ``DPOTrainer._compute_loss`` and ours on 1,000 random pairs per loss.

TRL's trainer is made without its constructor and given a model that returns the token log-probabilities we choose, so
that what runs is TRL's loss code as installed, and nothing of it is copied here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import rather

dpo_trainer = pytest.importorskip("trl.trainer.dpo_trainer")

BATCHES, PAIRS, TOKENS = 50, 20, 9
PROMPT = 2

# TRL's loss type: (our method, our options, TRL's attributes). beta is 0.3 for all.
LOSSES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sigmoid": ("dpo", {}, {}),
    "hinge": ("hinge", {}, {}),
    "ipo": ("ipo", {}, {}),
    "exo_pair": ("exo_pair", {"smoothing": 0.07}, {"label_smoothing": 0.07}),
    "nca_pair": ("nca_pair", {}, {}),
    "robust": ("rdpo", {"flip_rate": 0.2}, {"label_smoothing": 0.2}),
    "bco_pair": ("bco_pair", {"baseline": "none"}, {}),
    "sppo_hard": ("sppo_hard", {}, {}),
    "aot": ("aot", {"labels": {"smoothing": 0.1}}, {"label_smoothing": 0.1}),
    "aot_unpaired": ("aot_unpaired", {"labels": {"smoothing": 0.1}}, {"label_smoothing": 0.1}),
    "apo_zero": ("apo_zero", {}, {}),
    "apo_down": ("apo_down", {}, {}),
    "discopop": ("discopop", {"temperature": 0.4}, {"discopop_tau": 0.4}),
    "sft": ("sft", {}, {}),
    "sigmoid_norm": ("dpo_norm", {}, {}),
}
BETA = 0.3


class GivenLogps(torch.nn.Module):
    """Answers TRL's forward pass with token log-probabilities [2B, T] that were chosen beforehand."""

    is_gradient_checkpointing = False

    def __init__(self, logps: Tensor) -> None:
        super().__init__()
        self.logps = logps

    def forward(self, labels: Tensor, **_: Any) -> SimpleNamespace:
        logps = torch.where(labels[:, 1:] == -100, 0.0, self.logps)
        rest = torch.zeros_like(self.logps)
        return SimpleNamespace(log_probs=logps, entropy=rest, mean_logits=rest, is_top1=rest.bool())


def trl_loss(loss_type: str, logps: Tensor, ref_logps: Tensor, mask: Tensor, **attributes: Any) -> Tensor:
    """The loss of TRL's trainer on a batch stacked as [chosen; rejected]."""
    trainer: Any = object.__new__(dpo_trainer.DPOTrainer)
    one_process = SimpleNamespace(device=logps.device, gather=lambda x: x, gather_for_metrics=lambda x: x)
    values = {
        "model": GivenLogps(logps),
        "ref_model": GivenLogps(ref_logps),
        "accelerator": one_process,
        "args": SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=attributes.pop("discopop_tau", None)),
        "aux_loss_enabled": False,
        "ld_alpha": None,
        "precompute_ref_logps": False,
        "f_divergence_type": "reverse_kl",
        "loss_types": [loss_type],
        "loss_weights": [1.0],
        "use_weighting": False,
        "beta": BETA,
        "label_smoothing": 0.0,
        "_metrics": {"train": defaultdict(list), "eval": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    vars(trainer).update(values | attributes)
    full = torch.cat(
        [torch.zeros(mask.shape[0], 1, dtype=mask.dtype), mask], dim=1
    )  # the first token predicts nothing
    inputs = {"input_ids": torch.ones_like(full), "attention_mask": torch.ones_like(full), "completion_mask": full}
    return trainer._compute_loss(trainer.model, inputs, return_outputs=False)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """TRL makes tensors of the default type from its settings; 1e-9 needs them in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def batch(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Token log-probabilities of policy and reference [2B, T], and the response mask (prompt first, padded after)."""
    shape = (2 * PAIRS, PROMPT + TOKENS)
    spread = 10 ** (2 * torch.rand(shape[0], 1, generator=generator) - 1)
    logps = -spread * torch.rand(shape, generator=generator)
    ref_logps = -spread * torch.rand(shape, generator=generator)
    position = torch.arange(shape[1])
    length = torch.randint(1, TOKENS + 1, (shape[0], 1), generator=generator)
    return logps, ref_logps, ((position >= PROMPT) & (position < PROMPT + length)).long()


@pytest.mark.parametrize("loss_type", LOSSES)
def test_equals_trl(loss_type: str) -> None:
    method, options, attributes = LOSSES[loss_type]
    if "beta" in rather.get_method(method).option_names():
        options = {**options, "beta": BETA}
    generator = torch.Generator().manual_seed(0)
    for _ in range(BATCHES):
        logps, ref_logps, mask = batch(generator)
        theirs_at, ours_at = logps.clone().requires_grad_(), logps.clone().requires_grad_()
        theirs = trl_loss(loss_type, theirs_at, ref_logps, mask, **dict(attributes))
        chosen, rejected = ours_at.chunk(2)
        ref_chosen, ref_rejected = ref_logps.chunk(2)
        chosen_mask, rejected_mask = mask.chunk(2)
        out = rather.loss(
            method,
            chosen,
            rejected,
            ref_chosen,
            ref_rejected,
            chosen_mask=chosen_mask,
            rejected_mask=rejected_mask,
            **options,
        )
        torch.testing.assert_close(out.loss, theirs, rtol=1e-9, atol=1e-9)
        (theirs_grad,) = torch.autograd.grad(theirs, theirs_at)
        (ours_grad,) = torch.autograd.grad(out.loss, ours_at)
        torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-9, atol=1e-9)


def test_every_loss_of_trl_is_covered() -> None:
    import inspect
    import re

    code = inspect.getsource(dpo_trainer.DPOTrainer._compute_loss)
    assert set(re.findall(r'loss_type == "(\w+)"', code)) == set(LOSSES)


def test_losses_without_reference_equal_trl() -> None:
    """CPO and SimPO in double precision; ORPO's odds ratio, which TRL computes in single precision."""
    cpo = pytest.importorskip("trl.experimental.cpo.cpo_trainer")
    orpo = pytest.importorskip("trl.experimental.orpo.orpo_trainer")
    one_process = SimpleNamespace(device="cpu")
    shared = {"beta": BETA, "alpha": 0.0, "label_smoothing": 0.0, "simpo_gamma": 0.7, "accelerator": one_process}
    trainers: dict[str, Any] = {}
    for name, kind, loss_type in (
        ("cpo", cpo.CPOTrainer, "sigmoid"),
        ("simpo", cpo.CPOTrainer, "simpo"),
        ("orpo", orpo.ORPOTrainer, None),
    ):
        trainers[name] = object.__new__(kind)
        vars(trainers[name]).update(shared, loss_type=loss_type)
    generator = torch.Generator().manual_seed(1)
    chosen, rejected = (-6 * torch.rand(1000, generator=generator) - 1e-3 for _ in range(2))
    one = {"chosen_lengths": torch.ones(1000), "rejected_lengths": torch.ones(1000)}
    ours = rather.loss("cpo", chosen, rejected, beta=BETA, **one).per_pair
    torch.testing.assert_close(ours, trainers["cpo"].cpo_loss(chosen, rejected)[0], rtol=1e-9, atol=1e-9)
    ours = rather.loss("simpo", chosen, rejected, beta=BETA, gamma=0.7, **one).per_pair
    torch.testing.assert_close(ours, trainers["simpo"].cpo_loss(chosen, rejected)[0], rtol=1e-9, atol=1e-9)
    ours = rather.loss("orpo", chosen, rejected, **one).per_pair
    theirs = -trainers["orpo"].odds_ratio_loss(chosen, rejected)[0].double() / BETA
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
