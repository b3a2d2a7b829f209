"""A pipeline's sampler that is guided away from a second network."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rather.errors import UserError
from rather.policies.pipelines.negative import WithNegative
from rather.policies.pipelines.opening import guide_away
from rather.training.examine import guided_away
from tiny_images import KINDS, opened

CAPTIONS = ("a cat", "two dogs")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))


def images(policy: Any, guidance: float | None = 3.0, steps: int = 3) -> np.ndarray:
    return np.stack([np.asarray(image, np.int16) for image in policy.images(CAPTIONS, 0, steps, guidance)])


def other(network: torch.nn.Module) -> torch.nn.Module:
    found = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in found.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return found


class Spy(torch.nn.Module):
    """A network, and what texts it was shown."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.shown = network, []

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.shown.append(kwargs["encoder_hidden_states"])
        return self.network(*args, **kwargs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_negative_network_sees_no_caption(folders: dict[str, str], kind: str) -> None:
    policy = opened(folders[kind])
    texts = policy.architecture.texts(policy.pipeline, [*CAPTIONS, ""], torch.device("cpu"))["states"]
    if kind == "sdxl":  # this pipeline takes zeros for no caption
        texts[2:] = 0.0
    network = policy.network
    policy.network, policy.negative = Spy(network), Spy(network)
    images(policy)
    assert len(policy.network.shown) == len(policy.negative.shown) == 3
    for shown in policy.network.shown:
        assert torch.allclose(shown, texts[:2], atol=1e-5)
    for shown in policy.negative.shown:
        assert torch.allclose(shown, texts[2:].expand_as(shown), atol=1e-5)
    assert getattr(policy.pipeline, policy.architecture.component) is policy.network, "the pipeline is as it was"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_network_is_ordinary_guidance(folders: dict[str, str], kind: str) -> None:
    policy = opened(folders[kind])
    if kind == "flux":  # this one was distilled: without a negative model it does not predict the empty caption
        policy.network.register_to_config(guidance_embeds=False)
        policy.network.time_text_embed = _without_guidance(policy.network.time_text_embed)
    plain = images(policy)
    policy.negative = policy.network
    assert np.abs(images(policy) - plain).max() <= 1
    policy.negative = other(policy.network)
    assert np.abs(images(policy) - plain).max() > 1


def _without_guidance(embedding: Any) -> torch.nn.Module:
    class Without(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = embedding

        def forward(self, timestep: Any, *rest: Any) -> Any:
            return self.embedding(timestep, torch.zeros_like(timestep), rest[-1])

    return Without()


def test_the_guided_prediction() -> None:
    """Of two halves of a batch the first, without captions, is the negative network's; a time for all goes to both."""

    class Scaled(torch.nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, x: torch.Tensor, t: torch.Tensor, states: torch.Tensor, added: Any) -> Any:
            return (self.by * x + t + states + added["sizes"],)

    x, states = torch.arange(8.0).view(4, 2), torch.ones(4, 2)
    added = {"sizes": torch.full((4, 1), 0.5)}
    both = WithNegative(Scaled(2.0), Scaled(10.0), images=2)
    (found,) = both(x, torch.tensor(3.0), states=states, added=added)
    assert found.tolist() == (torch.tensor([[10.0], [10.0], [2.0], [2.0]]) * x + 4.5).tolist()
    assert both.used
    alone = WithNegative(Scaled(2.0), Scaled(10.0), images=4)
    (found,) = alone(x, torch.tensor(3.0), states=states, added=added)
    assert found.tolist() == (2 * x + 4.5).tolist() and not alone.used


@pytest.mark.parametrize(("kind", "guidance"), [("sd", 1.0), ("sdxl", 0.0), ("flux", 1.0)])
def test_where_nothing_is_guided(folders: dict[str, str], kind: str, guidance: float) -> None:
    policy = opened(folders[kind])
    policy.negative = other(policy.network)
    with pytest.raises(UserError, match="nothing is guided"):
        images(policy, guidance, 1)


def test_what_can_be_a_negative_model(folders: dict[str, str]) -> None:
    policy = opened(folders["sd"])
    guide_away(policy, folders["sd"])
    assert policy.negative is not None and policy.negative is not policy.network
    with pytest.raises(UserError, match="not the architecture"):
        guide_away(policy, folders["sdxl"])
    with pytest.raises(UserError, match="not the architecture"):
        guide_away(policy, folders["sd3"])
    with pytest.raises(UserError, match="predicts v"):
        guide_away(policy, folders["sd-v"])


def test_samples_of_the_model_as_it_was(folders: dict[str, str]) -> None:
    policy = opened(folders["sd"])
    origin, trained = policy.network, other(policy.network)
    plain = images(policy)
    policy.negative = trained
    expected = images(policy)
    policy.network, policy.negative = trained, None
    with guided_away(policy, origin):
        assert np.array_equal(images(policy), expected)
    assert policy.network is trained and policy.negative is None
    with guided_away(policy, None):
        assert policy.network is trained
    assert not np.array_equal(plain, expected)
