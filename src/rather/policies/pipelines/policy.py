"""A text-to-image pipeline as a policy: responses are images, elements are the values of their latents.

The pipeline's VAE and text encoders are frozen; what they make is kept on disk (``store``), so each image and caption goes
through them once. A latent is a distribution: its mean and standard deviation are kept, and a sample is part of the draw.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rather.data.refusal import Refused
from rather.data.types import Comparison
from rather.errors import UserError
from rather.objectives.scores import Layout, stable_key
from rather.policies.base import Batch, Encoded
from rather.policies.counter_random import integers
from rather.policies.denoising import DenoisingPolicy
from rather.policies.encoding_report import EncodingReport
from rather.policies.fingerprint import network_fingerprint
from rather.policies.noising import DenoisingDraw, normal_numbers
from rather.policies.pipelines import stored_noise
from rather.policies.pipelines.architectures import Architecture, text_encoders
from rather.policies.pipelines.buckets import Shape, nearest, shapes
from rather.policies.pipelines.convolution import use_products
from rather.policies.pipelines.files import ADAPTERS
from rather.policies.pipelines.frozen import hold
from rather.policies.pipelines.negative import WithNegative
from rather.policies.pipelines.pixels import Framed, framed, png, shape_of
from rather.policies.pipelines.quiet import quiet
from rather.policies.pipelines.store import Store, content_key
from rather.policies.precision import compute_dtype
from rather.policies.schedule import NoiseSchedule
from rather.policies.settings import PolicySettings

_LATENTS, _CAPTIONS = 1_000_001, 1_000_002  # streams of the generator, beyond those of noising
_FINE = 1 << 30
_BATCH = 8  # images that go through the VAE together, captions through the text encoders
_SHOWN, _STEPS = 4, 20  # samples that a report shows, steps of each
# Images that the pipeline makes in one call. Memory grows with the positions of their latents: four images of 512 pixels
# are what a run's report shows of such a model anyway. Of small images 64 are enough to keep a processor busy.
_TOGETHER, _POSITIONS = 64, 4 * 64 * 64
LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
"""Layers that get adapters unless others are named: those of attention, as in diffusers' own scripts."""


class PipelinePolicy(DenoisingPolicy):
    """
    Args:
        pipeline: of diffusers, with its parts on the CPU.
        name: where it came from.
        adapters: folder of adapters that are put on it, and trained further.

    Attributes:
        network: the denoiser (UNet or transformer), with adapters where those are trained.
        size: side of the square that images are cut to; of other shapes the area.
        shapes: those that images are cut to.
        negative: network that images are guided away from, instead of this one's prediction without a caption.
    """

    negative: nn.Module | None = None

    def __init__(
        self,
        pipeline: Any,
        architecture: Architecture,
        schedule: NoiseSchedule,
        settings: PolicySettings,
        name: str,
        adapters: Path | None = None,
    ) -> None:
        network, settings = getattr(pipeline, architecture.component), self.suited(settings)
        super().__init__(network, schedule)
        self.kind = "flow" if schedule.prediction == "flow" else "diffusion"
        self.pipeline, self.architecture, self.settings, self.name = pipeline, architecture, settings, name
        self.size = _size(pipeline, settings, name)
        self.shapes = _shapes(pipeline, network, self.size) if settings.image_buckets else ((self.size, self.size),)
        self.report = EncodingReport()
        self.shown: list[str] = []
        self._fresh = settings.lora and adapters is None  # adapters that were loaded are no identity: a copy is needed
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        self._adapt(adapters)
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        device = next(network.parameters()).device
        self.dtype = compute_dtype(settings.precision, device)
        self._latents = Store("latents", network_fingerprint(pipeline.vae, dict(pipeline.vae.config)))
        self._texts = Store(
            "texts",
            content_key(*map(network_fingerprint, text_encoders(pipeline).values()), type(pipeline).__name__),
        )
        told = [
            self.shapes,
            schedule.prediction,
            schedule.sigma.tolist()[::50],
            str(self.dtype),
            self._latents.folder.name,
        ]
        self._fingerprint = network_fingerprint(network, *told, self._texts.folder.name)
        if hasattr(network, "peft_config"):
            if self.dtype != torch.float32:
                hold(network, self.dtype)
            use_products(network)

    @staticmethod
    def suited(settings: PolicySettings) -> PolicySettings:
        """The settings with what is best for this kind of policy in the place of what is left open."""
        return settings

    def _adapt(self, adapters: Path | None) -> None:
        settings, network = self.settings, self.network
        if adapters is not None:
            self.pipeline.load_lora_weights(str(adapters))
        elif settings.lora:
            from peft import LoraConfig

            named = [part.strip() for part in settings.lora_targets.split(",") if part.strip()]
            targets = LORA_TARGETS if settings.lora_targets == "all-linear" else named
            config = LoraConfig(
                r=settings.lora_rank,
                lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # annotated int, used as a number
                lora_dropout=settings.lora_dropout,
                target_modules=targets,
                init_lora_weights="gaussian",
            )
            told: Any = network
            with torch.random.fork_rng():
                torch.manual_seed(0)
                try:
                    told.add_adapter(config)
                except ValueError as error:
                    what = f"no layer can take an adapter: {str(error).splitlines()[0]}"
                    fix = f"the default stands for {', '.join(LORA_TARGETS)}"
                    raise UserError(what, where=f"--lora-targets {settings.lora_targets}", fix=fix) from error
        adapted = hasattr(network, "peft_config")
        if adapted:
            from rather.policies.lora_layers import fuse

            fuse(network)
        for key, parameter in network.named_parameters():
            parameter.requires_grad_("lora_" in key if adapted else True)

    # Images and captions into the policy's own numbers

    def encode(self, comparisons: Sequence[Comparison]) -> list[Encoded]:
        """Images go through the VAE, captions through the text encoders, each of them once (see ``store``)."""
        self.report = EncodingReport(comparisons=len(comparisons))
        found: list[Encoded] = []
        waiting: dict[str, Framed] = {}
        captions: dict[str, str] = {content_key(""): ""}
        for comparison in comparisons:
            try:
                inputs = self._keys(comparison, waiting)
            except Refused as refused:
                self.report.drop(str(comparison.source or comparison.id), refused.reason)
                continue
            captions.setdefault(inputs["caption"], comparison.prompt)
            if len(waiting) >= _BATCH:
                self._encode_images(waiting)
            images, (channels, height, width) = len(comparison.responses), self.latent_shape(inputs["shape"])
            lengths = (channels * height * width,) * images
            cost = images * height * width
            found.append(Encoded(comparison, lengths, cost, inputs, bucket=inputs["shape"]))
        self._encode_images(waiting)
        self._texts.fill(captions, self._encode_texts, _BATCH)
        self.report.encoded = len(found)
        self.shown = [text for text in captions.values() if text][:_SHOWN]
        return found

    def blank(self) -> bytes:
        """A grey square."""
        from PIL import Image

        return png(Image.new("RGB", (self.size, self.size), (128, 128, 128)))

    def latent_shape(self, shape: Shape) -> tuple[int, int, int]:
        """Channels, height and width of the latents of an image of ``shape``."""
        height, width = (side // self.pipeline.vae_scale_factor for side in shape)
        return self.pipeline.vae.config.latent_channels, height, width

    def _shape(self, comparison: Comparison) -> Shape:
        """What the images of a comparison are cut to: all alike, since they are compared at one noise."""
        if not self.settings.image_buckets:
            return self.size, self.size
        return nearest(*shape_of(comparison.responses[preferred(comparison)]), self.shapes)

    def _keys(self, comparison: Comparison, waiting: dict[str, Framed]) -> dict[str, Any]:
        if not isinstance(comparison.prompt, str):
            raise Refused("wrong-type", "the caption of an image is not text")
        if not comparison.prompt.strip():
            raise Refused("empty-field", "the caption is empty")
        if not comparison.responses:
            raise Refused("empty-field", "there is no image")
        flip = self.settings.image_flip and stable_key(comparison.id) % 2 == 1
        contents = [_content(response) for response in comparison.responses]
        shape = self._shape(comparison)
        keys = []
        for response, content in zip(comparison.responses, contents, strict=True):
            key = content_key(content, flip, *shape)
            if not self._latents.path(key).is_file() and key not in waiting:
                waiting[key] = framed(response, shape, flip=flip)
            keys.append(key)
        noise = comparison.extras.get("noise")
        if noise is not None and stored_noise.shape(noise) != (len(keys), *self.latent_shape(shape)):
            numbers = " x ".join(map(str, self.latent_shape(shape)))
            raise Refused("wrong-type", f"the stored noise of a response is not {numbers} numbers")
        return {"images": keys, "shape": shape, "caption": content_key(comparison.prompt), "noise": noise}

    def _encode_images(self, waiting: dict[str, Framed]) -> None:
        for shape in dict.fromkeys(image.pixels.shape for image in waiting.values()):
            alike = {key: image for key, image in waiting.items() if image.pixels.shape == shape}
            self._latents.fill(alike, self._through_vae, _BATCH)
        waiting.clear()

    @torch.no_grad()
    def _through_vae(self, images: Sequence[Framed]) -> list[dict[str, Tensor]]:
        vae = self.pipeline.vae
        with _on_accelerator(vae) as device:
            pixels = torch.from_numpy(np.stack([image.pixels for image in images])).to(device)
            known = vae.encode(pixels).latent_dist
        scale, shift = vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0
        rows = zip(images, (known.mean - shift) * scale, known.std * scale, strict=True)
        return [{"mean": m, "std": s, "framing": torch.tensor(image.framing).float()} for image, m, s in rows]

    @torch.no_grad()
    def _encode_texts(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        with _on_accelerator(*text_encoders(self.pipeline).values()) as device:
            found = self.architecture.texts(self.pipeline, captions, device)
        return [{name: rows[number] for name, rows in found.items()} for number in range(len(captions))]

    def collate(self, encoded: Sequence[Encoded]) -> Batch:
        """``inputs``: ``latents`` and ``std`` [R, C, H, W], what the family keeps of captions [R, ...], ``framing`` [R, 6],
        and ``noise`` [R, C, H, W] where a comparison stores it, NaN where one does not."""
        layout = Layout.of([e.comparison for e in encoded], [size for e in encoded for size in e.lengths])
        images = [self._latents.read(key) for e in encoded for key in e.inputs["images"]]
        texts = [self._texts.read(e.inputs["caption"]) for e in encoded for _ in e.inputs["images"]]
        inputs = {name: torch.stack([text[name] for text in texts]) for name in texts[0]}
        inputs |= {name: torch.stack([image[name] for image in images]) for name in ("std", "framing")}
        inputs["latents"] = torch.stack([image["mean"] for image in images])
        if any(e.inputs["noise"] is not None for e in encoded):
            unknown = np.full(inputs["latents"].shape[1:], np.nan, np.float32)
            stored = [
                np.stack([unknown] * len(e.inputs["images"]))
                if e.inputs["noise"] is None
                else stored_noise.numbers(e.inputs["noise"])
                for e in encoded
            ]
            inputs["noise"] = torch.from_numpy(np.concatenate(stored))
        return Batch(layout, inputs, tuple(e.comparison.id for e in encoded))

    # Scores

    def clean(self, batch: Batch, seed: int) -> Tensor:
        """A sample of each latent's distribution, by ``seed``, the comparison's key and the response's number."""
        mean, std = batch.inputs["latents"], batch.inputs["std"]
        return mean + std * normal_numbers(batch.layout, seed, _LATENTS, mean.shape[1:], shared=False).to(mean)

    def in_training(self, draw: DenoisingDraw, batch: Batch, seed: int) -> DenoisingDraw:
        """The draw with some captions left out, for all responses of a comparison alike, so that guidance by the empty
        caption goes on working. Scores are without them; a network that inverted to make the draw has seen them all."""
        if not self.settings.caption_drop:
            return draw
        chance = integers(seed, batch.layout.key.cpu().numpy(), _CAPTIONS, _FINE) / _FINE
        dropped = torch.from_numpy(chance < self.settings.caption_drop).to(batch.layout.prompt.device)
        return replace(draw, unprompted=dropped[batch.layout.prompt])

    def predict(self, network: nn.Module, noisy: Tensor, timestep: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """In the compute type; the result in that of ``noisy``."""
        with self._autocast(noisy.device):
            return self.architecture.predict(network, noisy, timestep, inputs, self.schedule).to(noisy.dtype)

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def unprompted(self, inputs: Mapping[str, Any], rows: Tensor | None = None) -> dict[str, Any]:
        found = dict(inputs)
        for name, empty in self._texts.read(content_key("")).items():
            told: Tensor = inputs[name]
            empty = empty.to(told).expand_as(told)
            found[name] = empty if rows is None else torch.where(rows.view(-1, *[1] * (told.dim() - 1)), empty, told)
        return found

    def adapters_off(self, network: nn.Module) -> AbstractContextManager[None] | None:
        return _without_adapters(network) if self._fresh else None

    def fingerprint(self) -> str:
        """Hash of the weights at construction, the schedule, the sizes, and of VAE and text encoders."""
        return self._fingerprint

    # What a run leaves

    def save(self, network: nn.Module, folder: Path) -> None:
        """Adapters as diffusers loads them (``pipeline.load_lora_weights``), or the whole pipeline (``from_pretrained``)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not hasattr(network, "peft_config"):
            setattr(self.pipeline, self.architecture.component, network)
            with quiet():
                self.pipeline.save_pretrained(str(folder), safe_serialization=True)
            return
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft.utils import get_peft_model_state_dict

        told: Any = network
        component, (name, *_) = self.architecture.component, told.peft_config
        weights = convert_state_dict_to_diffusers(get_peft_model_state_dict(network, adapter_name=name))
        given = {
            f"{component}_lora_layers": weights,
            f"{component}_lora_adapter_metadata": told.peft_config[name].to_dict(),
        }
        type(self.pipeline).save_lora_weights(str(folder), **given)
        base = {"base": self.name, "class": type(self.pipeline).__name__}
        (folder / ADAPTERS).write_text(json.dumps(base, indent=1) + "\n", encoding="utf-8")

    def images(
        self, captions: Sequence[str], seed: int = 0, steps: int = _STEPS, guidance: float | None = None
    ) -> list[Any]:
        """PIL images of captions by the pipeline itself, with the network as it is now.

        Args:
            seed: with an image's number it decides its start noise, however many are made together.
            guidance: scale of guidance by the empty caption; the pipeline's default when left out.
        """

        def start(some: range) -> dict[str, Any]:
            return {"generator": [torch.Generator("cpu").manual_seed(seed * _FINE + number) for number in some]}

        return self._call(captions, (self.size, self.size), steps, guidance, start)

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the noise that an image of the usual size is made from."""
        return self.latent_shape((self.size, self.size))

    @property
    def together(self) -> int:
        """Images of the usual size that are made in one call."""
        return _together(self.noise_shape)

    def from_noise(
        self, captions: Sequence[str], noise: np.ndarray, steps: int = _STEPS, guidance: float | None = None
    ) -> list[Any]:
        """PIL images of captions, each a function of its own ``noise`` [n, C, H, W], standard normal, up to rounding.

        Samplers may draw further noise: a diffusion model is sampled by DDIM, whatever scheduler it comes with.
        """
        height, width = (side * self.pipeline.vae_scale_factor for side in noise.shape[2:])
        latents = self.architecture.start(torch.from_numpy(noise)).to(next(self.network.parameters()).device)
        scheduler = self.pipeline.scheduler
        self.pipeline.scheduler = _deterministic(scheduler, self.kind)
        try:
            return self._call(
                captions, (height, width), steps, guidance, lambda some: {"latents": latents[some.start : some.stop]}
            )
        finally:
            self.pipeline.scheduler = scheduler

    @torch.no_grad()
    def _call(
        self,
        captions: Sequence[str],
        shape: Shape,
        steps: int,
        guidance: float | None,
        start: Callable[[range], dict[str, Any]],
    ) -> list[Any]:
        """The pipeline's own calls; ``start`` says what images of these numbers start from.

        Raises:
            UserError: there is a negative network, and nothing is guided.
        """
        device = next(self.network.parameters()).device
        parts = [part for part in self.pipeline.components.values() if isinstance(part, nn.Module)]
        away, found, used = self.negative, [], True
        together = _together(self.latent_shape(shape))
        try:
            with _on_accelerator(*parts, *([] if away is None else [away]), device=device), self._autocast(device):
                for first in range(0, len(captions), together):
                    some = range(len(captions))[first : first + together]
                    denoiser: Any = self.network if away is None else WithNegative(self.network, away, len(some))
                    setattr(self.pipeline, self.architecture.component, denoiser)
                    found += self.pipeline(
                        prompt=[captions[number] for number in some],
                        num_inference_steps=steps,
                        height=shape[0],
                        width=shape[1],
                        **self.architecture.sampling(self.pipeline, guidance, len(some), away is not None),
                        **start(some),
                    ).images
                    used &= away is None or denoiser.used
        finally:
            setattr(self.pipeline, self.architecture.component, self.network)
        if not used:
            fix = "give a scale above 1; a pipeline that cannot guide has no use for a negative model"
            raise UserError("nothing is guided away from the negative model", where=f"--guidance {guidance}", fix=fix)
        return found

    def illustrate(self, network: nn.Module, path: Path) -> str:
        """Samples for the captions that were encoded last (the held-out ones in a run) into ``path``, side by side."""
        from PIL import Image

        shown = self.images(self.shown)
        sheet = Image.new("RGB", (self.size * len(shown), self.size))
        for number, image in enumerate(shown):
            sheet.paste(image, (number * self.size, 0))
        sheet.save(path, format="PNG")
        how = " (guided away from the trained model)" if self.negative is not None else ""
        return "; ".join(self.shown) + how


def _together(latent: tuple[int, int, int]) -> int:
    _, height, width = latent
    return max(1, min(_TOGETHER, _POSITIONS // (height * width)))


def preferred(comparison: Comparison) -> int:
    """The response that wins and never loses; without an order, the first."""
    losers = {edge.loser for edge in comparison.edges}
    return next((edge.winner for edge in comparison.edges if edge.winner not in losers), 0)


def _content(response: Any) -> bytes:
    if isinstance(response, bytes):
        return response
    if not isinstance(response, str):
        raise Refused("wrong-type", f"a response is a {type(response).__name__}, not an image's bytes or path")
    try:
        return Path(response).read_bytes()
    except OSError as error:
        raise Refused("missing-file", f"the image {response} cannot be read: {error.strerror}") from None


def _size(pipeline: Any, settings: PolicySettings, name: str) -> int:
    told: Any = getattr(pipeline, "default_sample_size", None) or pipeline.unet.config.sample_size
    size = settings.image_size or int(told) * pipeline.vae_scale_factor
    step = _unit(pipeline)
    if size % step:
        fix = f"for {name}, {size - size % step} or {size - size % step + step}"
        raise UserError(f"not a multiple of {step}", where=f"--image-size {size}", fix=fix)
    return size


def _unit(pipeline: Any) -> int:
    """What the sides of images have to be multiples of: latents are halved once, or taken two by two."""
    return pipeline.vae_scale_factor * 2


def _shapes(pipeline: Any, network: Any, size: int) -> tuple[Shape, ...]:
    """The shapes of buckets; no side goes beyond the places that a transformer has embeddings of."""
    places = getattr(network.config, "pos_embed_max_size", None)
    longest = places * network.config.patch_size * pipeline.vae_scale_factor if places else None
    return shapes(size, _unit(pipeline), longest)


def _deterministic(scheduler: Any, kind: str) -> Any:
    """A sampler whose result follows from where it starts: DDIM; for a flow its own, which draws nothing unless told to."""
    from diffusers import DDIMScheduler

    if kind != "flow":
        return DDIMScheduler.from_config(scheduler.config)
    draws = scheduler.config.get("stochastic_sampling")
    return type(scheduler).from_config(scheduler.config, stochastic_sampling=False) if draws else scheduler


@contextmanager
def _on_accelerator(*parts: nn.Module, device: torch.device | None = None) -> Iterator[torch.device]:
    """Frozen parts on the accelerator where there is one, and back: they are needed for a moment only."""
    found = device or (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None)
    found = found or torch.device("cpu")
    before = [next(part.parameters()).device for part in parts]
    for part in parts:
        part.to(found)
    try:
        yield found
    finally:
        for part, home in zip(parts, before, strict=True):
            part.to(home)


@contextmanager
def _without_adapters(network: Any) -> Iterator[None]:
    network.disable_adapters()
    try:
        yield
    finally:
        network.enable_adapters()
