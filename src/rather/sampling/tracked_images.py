"""Pairs of a pipeline's own images that remember the noise they were made from, as files: data for --method pnapo.

Each caption gets some images, each from a noise of its own; a judge says how good they are, and the best and the worst are a
pair. Beside the file NAME.jsonl stands the folder NAME-files: the images as PNG, and for each pair one safetensors file with
both noises. A noise is a function of the seed, the caption and the image's number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rather.data.identity import content_id
from rather.data.parts import Parts, write_whole
from rather.data.types import Comparison, Edge
from rather.objectives.scores import stable_key
from rather.policies.counter_random import normals
from rather.policies.pipelines import stored_noise
from rather.policies.pipelines.pixels import png

_NOISE = 2  # stream of the generator

Score = Callable[[Any, Sequence[bytes]], Any]
"""(caption, images as PNG) to a number for each, the better the higher."""
_Drawn = tuple[np.ndarray, Sequence[Any]]  # noises and images of one caption


class ImagesFromNoise(Protocol):
    """What makes images; ``rather.policies.pipelines.policy.PipelinePolicy``."""

    @property
    def noise_shape(self) -> tuple[int, int, int]: ...

    @property
    def together(self) -> int: ...

    def from_noise(
        self, captions: Sequence[str], noise: np.ndarray, steps: int = ..., guidance: float | None = ...
    ) -> list[Any]: ...

    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class ImageSampling:
    """How images are made.

    Attributes:
        n: images of each caption.
        steps: of the sampler.
        guidance: scale of guidance; the pipeline's own when left out.
    """

    n: int = 2
    steps: int = 20
    guidance: float | None = None
    seed: int = 0


def start_noise(caption: str, shape: tuple[int, ...], settings: ImageSampling) -> np.ndarray:
    """[n, *shape] float32 standard normal numbers."""
    keys = np.array([stable_key(f"{number}/{caption}") for number in range(settings.n)])
    return normals(settings.seed, keys, _NOISE, int(np.prod(shape))).astype(np.float32).reshape(settings.n, *shape)


def tracked_images(
    policy: ImagesFromNoise,
    prompts: Iterable[Comparison],
    score: Score,
    out: Path,
    settings: ImageSampling,
    *,
    judge: str = "",
    left_out: Counter[str] | None = None,
) -> Iterator[Comparison]:
    """One pair for each different caption, with paths relative to the folder of ``out``, both scores and ``noise``.

    Images of several captions are made together, as many as the policy makes at a time. What was judged is kept until the
    work is done, so the same call goes on where it was stopped.

    Args:
        prompts: their captions are used, nothing else of them.
        score: the judge; ``judge`` is its name, by which work that was begun with another one is told.
        left_out: counts the reasons for captions without a pair.
    """
    left_out = left_out if left_out is not None else Counter()
    parts = Parts(out, [asdict(settings), policy.fingerprint(), judge])
    captions, together = _captions(prompts, left_out), max(1, policy.together // settings.n)
    while some := list(islice(captions, together)):
        names = {caption: f"{stable_key(f'{settings.seed}/{caption}'):016x}" for caption in some}
        drawn = _drawn(policy, [caption for caption, name in names.items() if not parts.has(name, caption)], settings)
        for caption, name in names.items():

            def make(caption: str = caption, name: str = name, drawn: Mapping[str, _Drawn] = drawn) -> dict[str, Any]:
                return _judged(caption, *drawn[caption], score, out, name)

            made = parts.get(name, caption, make)
            if "reason" in made:
                left_out[made["reason"]] += 1
                continue
            best, worst = made["scores"]
            pair = Comparison(
                "",
                caption,
                tuple(made["images"]),
                (Edge(0, 1, margin=best - worst),),
                scores=(best, worst),
                extras=made["extras"],
            )
            yield replace(pair, id=content_id(pair))
    parts.clear()


def _captions(prompts: Iterable[Comparison], left_out: Counter[str]) -> Iterator[str]:
    """The different ones."""
    seen: set[str] = set()
    for prompt in prompts:
        caption = prompt.prompt
        if not isinstance(caption, str) or not caption.strip():
            left_out["the caption is not text"] += 1
        elif caption in seen:
            left_out["the same caption again"] += 1
        else:
            seen.add(caption)
            yield caption


def _drawn(policy: ImagesFromNoise, captions: Sequence[str], settings: ImageSampling) -> dict[str, _Drawn]:
    """Noises and images of each caption, all made together."""
    if not captions:
        return {}
    noise = np.stack([start_noise(caption, policy.noise_shape, settings) for caption in captions])
    asked = [caption for caption in captions for _ in range(settings.n)]
    images = policy.from_noise(asked, noise.reshape(-1, *policy.noise_shape), settings.steps, settings.guidance)
    own = (images[first : first + settings.n] for first in range(0, len(images), settings.n))
    return dict(zip(captions, zip(noise, own, strict=True), strict=True))


def _judged(
    caption: str, noise: np.ndarray, images: Sequence[Any], score: Score, out: Path, name: str
) -> dict[str, Any]:
    """The files of one pair, and what its row says; or the reason why there is none."""
    pictures = [png(image) for image in images]
    scores = np.asarray(score(caption, pictures), np.float64)
    best, worst = int(scores.argmax()), int(scores.argmin())
    if scores[best] == scores[worst]:
        return {"reason": "all images score alike"}
    if pictures[best] == pictures[worst]:
        return {"reason": "the images are the same"}
    folder = out.with_name(f"{out.stem}-files")
    paths = [folder / f"{name}-{number}.png" for number in (best, worst)]
    for path, number in zip(paths, (best, worst), strict=True):
        write_whole(path, pictures[number])
    stored_noise.write(folder / f"{name}.safetensors", noise[[best, worst]])
    return {
        "images": [f"{folder.name}/{path.name}" for path in paths],
        "scores": [float(scores[best]), float(scores[worst])],
        "extras": {"noise": f"{folder.name}/{name}.safetensors"},
    }
