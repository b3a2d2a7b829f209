"""The worlds of the studies with further responses: what their truth says of what they make."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from torch import nn

from rather.studies import mapl, rationales, spo


class TestRationales:
    def test_the_preferred_end_and_the_named_feature_follow_the_truth(self) -> None:
        settings = rationales.Settings(sizes=(500, 1_000, 2_000))
        world = rationales.make_world(settings, 0)
        margins = world.differences @ world.truth
        assert 0.6 < float((margins > 0).double().mean()) < 1.0
        assert int((world.truth != 0).sum()) == settings.relevant
        mine = (world.truth * world.differences).gather(1, world.named[:, None]).mean()
        assert mine > 2 * (world.truth * world.differences).mean()

    def test_the_truth_is_found_with_many_pairs(self) -> None:
        settings = rationales.Settings(sizes=(500, 1_000, 2_000), test=1_000)
        world = rationales.make_world(settings, 1)
        for arm in ("DPO", "rationales"):
            theta = rationales.fit(settings, world.differences, world.named, arm)
            assert rationales.accuracy(world, theta) > 0.95


class TestMapl:
    @pytest.mark.parametrize("seed", range(30))
    def test_prompts_are_in_their_relation(self, seed: int) -> None:
        attributes = mapl.drawn(1, torch.Generator().manual_seed(seed)).attributes[0]

        def obeyed(side: int, asked: mapl.Asked) -> list[bool]:
            return [value == float(attributes[side][i]) for i, value in enumerate(asked) if value]

        ((side, better), up, _), ((_, worse), down, _) = mapl.intra(attributes, 2, random.Random(seed))
        assert (up, down) == (1.0, -1.0)
        good, bad = obeyed(side, better), obeyed(side, worse)
        assert len(good) == len(bad)
        assert (all(good) and not all(bad)) or (any(good) and not any(bad))
        for kind, groups in (("contrast", {0: 4}), ("bt", {0: 2, 1: 2})):
            found = mapl.inter(attributes, 2, kind, random.Random(seed))
            assert Counter(group for _, _, group in found) == (groups if found else {})
            for (side, asked), sign, group in found:
                wanted = all(obeyed(side, asked))
                assert wanted == any(obeyed(side, asked))  # all or nothing
                assert (sign > 0) == wanted, group

    def test_a_model_of_the_truth_measures_as_one(self) -> None:
        class Truth(nn.Module):
            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                meaning = inputs[..., : mapl.MEANING] @ mapl.WEIGHTS
                return (meaning + 10 * inputs[..., -mapl.ATTRIBUTES :].sum(-1))[..., None]

        found = mapl.measure(mapl.Settings(test=500), Truth(), torch.Generator().manual_seed(0))
        assert set(found.values()) == {1.0}


class TestSpo:
    def test_levels_mask_their_share_of_keywords(self) -> None:
        generator = torch.Generator().manual_seed(0)
        whole = spo.texts(400, generator)
        keywords = (whole < spo.KEYWORDS).sum(-1)
        assert 3 < float(keywords.float().mean()) < 5
        for level in range(4):
            chosen = torch.full((400,), level)
            for keys in (True, False):
                less = spo.degraded(whole, chosen, 4, keys, generator)
                masked = less == spo.MASK
                available = keywords if keys else spo.LENGTH - keywords
                expected = torch.minimum(-(-level * keywords // 3), available)
                assert torch.equal(masked.sum(-1), expected)
                assert bool(((whole < spo.KEYWORDS) == keys)[masked].all())
                assert torch.equal(less[~masked], whole[~masked])

    def test_ranks_share_their_mean(self) -> None:
        assert spo.ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]

    def test_the_model_reads_from_left_to_right(self) -> None:
        model = spo.Model(6)
        texts = spo.texts(3, torch.Generator().manual_seed(0))
        logps, states = model(texts)
        other = texts.clone()
        other[:, 5] = spo.MASK
        moved, moved_states = model(other)
        assert torch.equal(moved_states[:, :6], states[:, :6]) and not torch.equal(moved_states[:, 6:], states[:, 6:])
        assert torch.equal(moved[:, :5], logps[:, :5])
        total = model.out(states).detach().log_softmax(-1).exp().sum(-1)
        assert float((total - 1).abs().max()) < 1e-5
