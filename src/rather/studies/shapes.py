"""Diffusion-DPO on images, arXiv 2311.12908, in the world of coloured shapes.

Claim. Preferences over pairs of images, labelled by a program, make a model show what captions ask for more often, on
captions with combinations that no training caption has; for a diffusion model and for a rectified flow.

World. Images of 32 x 32 pixels with one to four coloured shapes, and captions of six tasks (one object, two,
counting, colours, position, binding of colours to objects). The base models (a UNet that predicts v, a transformer that
predicts the velocity of a rectified flow, both on latents of 8 x 8) have learned from captions that are wrong in half
of the cases about counts, positions and bindings, and for a short time. Each makes eight images of 2,000 training
captions, and a program scores them: the share of single things asked for that an image shows, and one more where it
shows what the task is about. Best and worst are a pair, where their scores differ. The pairs are made once for each
base model and are the same in all seeds; seeds differ in order, noise and timesteps of training and in the noise that
samples are judged from. What is measured is read off samples by the program: held-out captions, 20
steps, guidance 3, the same start noise for all arms of a seed.

Arms. The base; ``diffusion_dpo``; ``sft`` on the same winners for as many steps, the simple baseline (training on the
best of one's own samples).

Verdict. Supported when the total rises for both base models, refuted when that of the diffusion model falls; the
comparison with sft is noted. Learning rate, beta, the number of passes and that of images a caption were chosen for
the diffusion model with other pairs and other captions. So was the source of the pairs: pairs that a program draws
(``world:shapes``), whose loser breaks the caption in one thing, moved nothing there.

[inferred] Everything but the loss: the paper trains Stable Diffusion on people's choices.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rather.studies import own_images
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.results import Finding, Results, Rows
from rather.worlds.shapes.demand import TASKS
from rather.worlds.shapes.score import GENEVAL, SINGLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rather.data.types import Comparison

ARMS = ("diffusion_dpo", "sft")
STRICT = "everything"
_NAMES = {
    GENEVAL: "total",
    "pass_rate": STRICT,
    SINGLE: SINGLE,
    **{task.replace("_", " "): task.replace("_", " ") for task in TASKS},
}
_PAIRS_SEED = 10  # settings were chosen with others
GUIDANCE = 3.0
_COLOURS = 6  # of a chart; bars beyond are hatched


class Settings(StudySettings):
    processes: tuple[str, ...] = Field(("v", "flow"), min_length=1, description="base models")
    base_steps: int | None = Field(None, ge=1, description="pretraining steps of the base models; None: as they come")
    captions: int = Field(2000, ge=1, description="captions that a base model makes images of")
    images: int = Field(8, ge=2, description="of each caption")
    pairs: int = Field(2000, ge=2, description="labelled pairs, at most")
    epochs: float = Field(4.0, gt=0, description="passes over them")
    batch: int = Field(32, ge=1, description="pairs of a step")
    rate: float = Field(5e-5, gt=0, description="learning rate")
    beta: float = Field(100.0, gt=0, description="beta, as published for diffusion_dpo")
    per_task: int = Field(100, ge=1, description="held-out captions of each task")


def run(settings: Settings, seed: int) -> Rows:
    rows: dict[str, Mapping[str, float]] = {}
    for process in settings.processes:
        rows[f"{process}, base"] = untrained(settings, process, seed)
        for arm in ARMS:
            own = {"beta": settings.beta} if arm == "diffusion_dpo" else {}
            rows[f"{process}, {arm}"] = trained(settings, process, seed, arm, own, own_pairs(settings, process))
    return rows


def own_pairs(settings: Settings, process: str) -> Sequence[Comparison]:
    """Of the base model's own images."""
    return _own_pairs(process, settings.base_steps, settings.captions, settings.images)[: settings.pairs]


@lru_cache(maxsize=4)
def _own_pairs(process: str, base_steps: int | None, captions: int, images: int) -> Sequence[Comparison]:
    made = _made(process, base_steps, captions, images)
    found = [one.pair(f"own-{row}", 0, -1) for row, one in enumerate(made)]
    return tuple(pair for pair in found if pair is not None)


def made(settings: Settings, process: str) -> Sequence[own_images.Made]:
    """The base model's own images, which those pairs are made of."""
    return _made(process, settings.base_steps, settings.captions, settings.images)


@lru_cache(maxsize=2)
def _made(process: str, base_steps: int | None, captions: int, images: int) -> Sequence[own_images.Made]:
    policy = opened(Settings.model_validate({"base_steps": base_steps}), process, 0)
    return tuple(own_images.make(policy, captions, images, _PAIRS_SEED, guidance=GUIDANCE))


def opened(settings: Settings, process: str, seed: int) -> Any:
    """A base model whose samples are checked from this seed's noise."""
    from rather.policies.registry import open_policy
    from rather.policies.settings import PolicySettings

    few = f"&steps={settings.base_steps}" if settings.base_steps else ""
    policy: Any = open_policy(PolicySettings.model_validate({"model": f"toy:shapes?process={process}{few}"}))
    policy.per_task, policy.noise_seed = settings.per_task, seed + 1
    return policy


def untrained(settings: Settings, process: str, seed: int) -> dict[str, float]:
    policy = opened(settings, process, seed)
    return rates(policy.check(policy.network))


def trained(
    settings: Settings,
    process: str,
    seed: int,
    method: str,
    own: Mapping[str, Any],
    data: Sequence[Comparison],
) -> dict[str, float]:
    """Rates after training by a method with options of its own."""
    policy = opened(settings, process, seed)
    train(policy, settings, seed, method, own, data)
    return rates(policy.check(policy.network))


def train(
    policy: Any, settings: Settings, seed: int, method: str, own: Mapping[str, Any], data: Sequence[Comparison]
) -> None:
    """Train a policy's network in place; the reference is what it was."""
    import rather

    kept = policy.per_task, policy.drawn
    policy.per_task = policy.drawn = 1  # the run's own looks at samples are not needed
    with tempfile.TemporaryDirectory() as folder:
        rather.train(
            model=policy,
            data=list(data),
            eval_fraction=0.0,
            method=method,
            epochs=settings.epochs,
            batch_size=settings.batch,
            max_tokens=128 * settings.batch,
            learning_rate=settings.rate,
            seed=seed,
            output=f"{folder}/run",
            quiet=True,
            **own,
        )
    policy.per_task, policy.drawn = kept


def rates(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(found[key].mean()) for key, name in _NAMES.items()}


def above(better: str, worse: str, metric: str = "total") -> Callable[[Results], Finding]:
    """Whether one cell's metric is higher than another's, seed by seed."""
    return lambda r: r.difference(better, worse, metric).above(0.0)


def _gain(process: str, metric: str = "total") -> Callable[[Results], Finding]:
    return above(f"{process}, diffusion_dpo", f"{process}, base", metric)


def _over(process: str, better: str, worse: str) -> Callable[[Results], Finding]:
    return above(f"{process}, {better}", f"{process}, {worse}")


CRITERIA = (
    Criterion("diffusion", "Diffusion-DPO raises the total of the diffusion model (v)", _gain("v")),
    Criterion("flow", "it raises the total of the rectified flow", _gain("flow")),
    Criterion("falls", "the total of the diffusion model falls",
              lambda r: r.difference("v, diffusion_dpo", "v, base", "total").below(0.0), "refutes"),
    Criterion("single checks, diffusion", "of the diffusion model it raises the share of single checks too",
              _gain("v", SINGLE), "noted"),
    Criterion("single checks, flow", "of the rectified flow it raises the share of single checks too",
              _gain("flow", SINGLE), "noted"),
    Criterion("more than sft, diffusion", "of the diffusion model it makes more than sft on the winners does",
              _over("v", "diffusion_dpo", "sft"), "noted"),
    Criterion("more than sft, flow", "of the rectified flow it makes more than sft on the winners does",
              _over("flow", "diffusion_dpo", "sft"), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    for axes, process in zip(figure.subplots(1, len(r.settings.processes), sharey=True, squeeze=False)[0],
                             r.settings.processes, strict=True):  # fmt: skip
        bars(r, axes, {arm: f"{process}, {arm}" for arm in ("base", *ARMS)})
        axes.set(title={"v": "diffusion, v prediction", "flow": "rectified flow"}.get(process, process))
    figure.axes[0].set(ylabel="share of images that obey")
    figure.axes[-1].legend()


def chart(r: Results, figure: Figure, arms: Sequence[str]) -> None:
    """One group of bars for each metric, of arms that are cells by their own names."""
    axes = figure.subplots()
    bars(r, axes, {arm: arm for arm in arms})
    axes.set(ylabel="share of images that obey")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)


def bars(r: Results, axes: Any, cells: Mapping[str, str]) -> None:
    """Means with intervals of all metrics; a group of bars for each, in it a bar for each arm, named by its label."""
    names = [SINGLE, STRICT, "total", *(task.replace("_", " ") for task in TASKS)]
    width = 0.85 / len(cells)
    for number, (label, cell) in enumerate(cells.items()):
        means = [r.mean(cell, name) for name in names]
        places = [place + (number - (len(cells) - 1) / 2) * width for place in range(len(names))]
        spread = [[m.mean - m.low for m in means], [m.high - m.mean for m in means]]
        look: dict[str, Any] = {"color": f"C{number % _COLOURS}", "hatch": "///" if number >= _COLOURS else None}
        axes.bar(places, [m.mean for m in means], 0.9 * width, yerr=spread, label=label, edgecolor="white", **look)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")


STUDY = Study(
    slug="shapes",
    title="Diffusion-DPO on images of shapes",
    claim="Preferences labelled by a program make image models show what captions ask for more often.",
    source="arXiv 2311.12908",
    settings=Settings,
    run=run,
    metrics={
        "total": "share of samples that show what their task is about, as GenEval asks it; mean of six tasks",
        STRICT: "share of samples that show everything that is asked for and nothing else",
        SINGLE: "share of single things asked for (number, shape, colour, texture, size, place) that are right",
    }
    | {task.replace("_", " "): "the total's share in one task" for task in TASKS},
    criteria=CRITERIA,
    tiny={"captions": 6, "images": 2, "epochs": 1.0, "batch": 3, "per_task": 1},
    plot=plot,
    threads=None,
    requires=("diffusers", "PIL"),
)
