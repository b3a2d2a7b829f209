"""Tiny models and comparisons that the policy tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rather.data.types import Comparison, Edge
from rather.policies.language import LanguagePolicy
from rather.policies.settings import PolicySettings
from tiny import tiny_model

Open = Callable[..., LanguagePolicy]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Folder of a tiny model, made once for each kind and set of options."""
    made: dict[Any, str] = {}

    def get(kind: str = "llama", chat: bool = True, **changes: Any) -> str:
        key = (kind, chat, *sorted(changes.items()))
        if key not in made:
            made[key] = tiny_model(tmp_path_factory.mktemp(kind) / "model", kind, chat, **changes)
        return made[key]

    return get


@pytest.fixture
def open_tiny(model_folder: Callable[..., str]) -> Open:
    """A policy around a tiny model: ``open_tiny("gpt2", encoding="padded")``, in float32."""

    def get(
        kind: str = "llama", chat: bool = True, folder: Path | str | None = None, **settings: Any
    ) -> LanguagePolicy:
        where = str(folder) if folder is not None else model_folder(kind, chat)
        return LanguagePolicy.load(PolicySettings(**{"model": where, "precision": "fp32", **settings}))

    return get


@pytest.fixture
def pairs() -> list[Comparison]:
    """Five pairs of different lengths, conversational; the last has three turns and an emoji."""
    said = [
        ("What is a river?", "Long water.", "I don't know what you mean, sorry, please ask another question!"),
        ("Name seven cities", "No.", "Yes: city, city, city"),
        ("Why is the mountain blue? " * 6, "It is very far from you.", "Because."),
        ("hi", "Hello friend, how can I help you?", "What?"),
    ]
    found = [
        Comparison(str(i), ({"role": "user", "content": p},), (chosen, rejected), (Edge(0, 1),))
        for i, (p, chosen, rejected) in enumerate(said)
    ]
    turns = ("Write a poem", "Red green", "A longer one 🙂 please")
    prompt = tuple({"role": "assistant" if i % 2 else "user", "content": t} for i, t in enumerate(turns))
    return [*found, Comparison("4", prompt, ("red, green,\nblue 🙂", "I can't"), (Edge(0, 1),))]
