"""Optimizer, parameter groups and learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from rather.objectives.base import Objective
from rather.training.config import TrainConfig


def auto_learning_rate(lora: bool, parameters: int, fresh: bool = False) -> float:
    """Peak rate when the user gives none; see ``TrainConfig.learning_rate``.

    Args:
        fresh: whether a head starts from nothing (a reward model), which has further to go than a good policy.
    """
    if lora:
        return 1e-4
    if fresh:
        return 2e-4 if parameters < 50_000_000 else 2e-5 if parameters < 1_000_000_000 else 2e-6
    return 5e-6 if parameters < 1_000_000_000 else 1e-6


def build_optimizer(network: nn.Module, objective: Objective, config: TrainConfig) -> torch.optim.Optimizer:
    """Matrices (weight decay) and vectors (none) of the network, and of the objective, which has its own rate and
    decay."""
    if config.learning_rate is None:
        raise ValueError("the learning rate has to be resolved before the optimizer is built")
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    own = list(objective.parameters())
    rate = config.learning_rate
    own_rate = config.objective_learning_rate or objective.rate_factor * rate
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.dim() > 1], "lr": rate, "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "lr": rate, "weight_decay": 0.0},
        {"params": [p for p in own if p.dim() > 1], "lr": own_rate, "weight_decay": objective.weight_decay},
        {"params": [p for p in own if p.dim() <= 1], "lr": own_rate, "weight_decay": 0.0},
    ]
    groups = [{**group, "peak_lr": group["lr"]} for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, alpha=config.adam_beta2, eps=config.adam_epsilon)
    floats = {p.dtype for group in groups for p in group["params"]}
    return torch.optim.AdamW(
        groups,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=floats <= {torch.float32, torch.float64, torch.bfloat16, torch.float16},
    )


def rate_factor(config: TrainConfig, step: int, total: int) -> float:
    """Share of the peak rate used in the 0-based ``step``; a function of the step alone, so nothing has to be
    saved."""
    warmup = config.warmup_steps if config.warmup_steps is not None else math.ceil(config.warmup_ratio * total)
    warmup = min(warmup, total)
    if step < warmup:
        return (step + 1) / warmup
    if config.lr_schedule == "constant":
        return 1.0
    rest = max(1, total - warmup)
    done = min(1.0, (step - warmup) / rest)
    return 1.0 - done if config.lr_schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set the learning rate of every group; returns that of the first."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale gradients down to the norm (0: never) and return the norm before; over all shards when sharded."""
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    # Asked first: multiplying every gradient by one is a trip through memory.
    if 0 < max_norm < float(norm) + 1e-6:
        torch.nn.utils.clip_grads_with_norm_(trained, max_norm, norm)
    return float(norm)
