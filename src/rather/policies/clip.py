"""Images and captions as points of one space: a CLIP model of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rather.errors import UserError
from rather.policies.device import inference_device
from rather.policies.models import load_pretrained, resolve

_BATCH = 32


class Clip:
    """Embeddings of a CLIP model: projected, not scaled to length one.

    Args:
        model: a folder or a hub name, in the format of transformers.
        processor: where the tokenizer and the preparation of images are; with the model when left out.

    Attributes:
        scale: exp of the model's logit scale, the factor on cosines in its training.
        width: of an embedding.

    Raises:
        UserError: it cannot be loaded, or is no CLIP model.
    """

    def __init__(self, model: str, processor: str | None = None) -> None:
        from transformers import AutoConfig, CLIPModel, CLIPProcessor

        found, beside = resolve(model), resolve(processor) if processor else resolve(model)
        try:
            kind = AutoConfig.from_pretrained(found.path_or_name, revision=found.hub_revision).model_type
            if kind != "clip":
                raise UserError(f"a model of the type {kind!r}, not CLIP", where=model, fix="give a CLIP model")
            load: Any = CLIPProcessor.from_pretrained
            self.processor: Any = load(beside.path_or_name, revision=beside.hub_revision)
        except (OSError, ValueError, ImportError) as error:
            what = f"the preparation of texts and images cannot be loaded: {str(error).strip().splitlines()[0]}"
            raise UserError(
                what, where=processor or model, fix="write MODEL?processor=FOLDER where it lies elsewhere"
            ) from error
        loaded: Any = load_pretrained(CLIPModel, found, torch.float32, adapter_trainable=False)
        self.device = inference_device()
        self.network = loaded.to(self.device)
        self.scale = float(self.network.logit_scale.detach().exp())
        self.width = int(self.network.config.projection_dim)

    @torch.no_grad()
    def images(self, images: Sequence[Any]) -> np.ndarray:
        """[n, d] float64 of PIL images in RGB."""
        found = [np.zeros((0, self.width))]
        for start in range(0, len(images), _BATCH):
            some = list(images[start : start + _BATCH])
            pixels = self.processor.image_processor(images=some, return_tensors="pt")["pixel_values"]
            states = self.network.vision_model(pixel_values=pixels.to(self.device)).pooler_output
            found.append(self.network.visual_projection(states).double().cpu().numpy())
        return np.concatenate(found)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """[n, d] float64; of a long text as much as the model reads (77 tokens) is seen."""
        longest = self.network.config.text_config.max_position_embeddings
        found = [np.zeros((0, self.width))]
        for start in range(0, len(texts), _BATCH):
            given = self.processor.tokenizer(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            ).to(self.device)
            told = {"input_ids": given["input_ids"], "attention_mask": given["attention_mask"]}
            states = self.network.text_model(**told).pooler_output
            found.append(self.network.text_projection(states).double().cpu().numpy())
        return np.concatenate(found)


def unit(points: np.ndarray) -> np.ndarray:
    """[n, d] scaled to length one."""
    return points / np.linalg.norm(points, axis=-1, keepdims=True)
