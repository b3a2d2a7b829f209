"""A base model's own images of captions of shapes, each scored by a program: what studies make pairs of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rather.data.parts import write_whole
from rather.data.types import Comparison, Edge
from rather.paths import cache_dir
from rather.progress import progress_bar
from rather.worlds.shapes.demand import OPENINGS, TASKS, Demand, random_demand
from rather.worlds.shapes.render import Image, to_png
from rather.worlds.shapes.score import grade


@dataclass(frozen=True)
class Made:
    """Images of one caption, the best first.

    Attributes:
        noise: [n, C, H, W] that they were made from.
        scores: see ``rather.worlds.shapes.score.grade``.
    """

    demand: Demand
    caption: str
    images: Sequence[Image]
    noise: np.ndarray
    scores: Sequence[float]

    def pair(self, name: str, better: int, worse: int) -> Comparison | None:
        """Two of the images with scores and noises; ``None`` where they score alike."""
        if self.scores[better] == self.scores[worse]:
            return None
        both = (better, worse)
        images = tuple(to_png(self.images[one]) for one in both)
        scores = tuple(self.scores[one] for one in both)
        return Comparison(
            name, self.caption, images, (Edge(0, 1),), scores=scores, extras={"noise": self.noise[list(both)]}
        )


def make(
    policy: Any, captions: int, images: int, seed: int, steps: int = 10, guidance: float | None = None
) -> list[Made]:
    """Images of so many training captions, all tasks equally often. They are kept in the user's cache, so that seeds and
    studies that take the same ones, or a study that was stopped, do not make them again.

    Args:
        policy: an image pipeline's.
        images: of each caption.
        steps: of the sampler, which adds no noise of its own.
    """
    from rather.policies.fingerprint import network_fingerprint
    from rather.policies.pipelines.pixels import pixels_of
    from rather.policies.pipelines.store import content_key

    random = np.random.default_rng([seed, 7])
    demands = [random_demand(TASKS[row % len(TASKS)], random) for row in range(captions)]
    texts = [demand.caption(int(random.integers(len(OPENINGS)))) for demand in demands]
    noise = random.standard_normal((captions, images, *policy.noise_shape), dtype=np.float32)
    flat, asked = noise.reshape(-1, *policy.noise_shape), np.repeat(texts, images).tolist()
    who = network_fingerprint(policy.network, policy.fingerprint(), steps, guidance)
    drawn: list[Image] = []
    with progress_bar("the model's own images, once", len(asked)) as advance:
        for first in range(0, len(asked), policy.together):
            some = slice(first, first + policy.together)

            def draw(some: slice = some) -> list[Image]:
                return [pixels_of(image) for image in policy.from_noise(asked[some], flat[some], steps, guidance)]

            drawn += _kept(content_key(who, flat[some].tobytes(), *asked[some]), draw)
            advance(len(asked[some]))
    found = []
    for row, (demand, text) in enumerate(zip(demands, texts, strict=True)):
        own = drawn[row * images : (row + 1) * images]
        scores = [grade(demand, image) for image in own]
        order = sorted(range(images), key=lambda one: -scores[one])
        found.append(
            Made(demand, text, [own[one] for one in order], noise[row, order], [scores[one] for one in order])
        )
    return found


def _kept(key: str, draw: Callable[[], list[Image]]) -> list[Image]:
    from safetensors.numpy import load_file, save

    path = cache_dir() / "own-images" / key[:2] / f"{key}.safetensors"
    if not path.is_file():
        write_whole(path, save({"images": np.stack(draw())}))
    return list(load_file(path)["images"])
