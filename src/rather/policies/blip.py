"""An image and a caption read together: BLIP's encoders (arXiv 2201.12086) by transformers' classes, from weights under the
names of BLIP's own code, as models fitted to preferences keep them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rather.errors import UserError
from rather.policies.device import inference_device

_BATCH = 16
_HEAD = 64
"""Width of a head of attention in both encoders."""

_IMAGE_NAMES = [
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.attn\.", ".self_attn."),
]
"""Parts of BLIP's own names -> transformers', each in turn. Those of the text encoder are the same."""


class Blip:
    """A text encoder that attends to an image at each of its layers.

    Args:
        tensors: ``visual_encoder.*`` and ``text_encoder.*``; others are not read. Sizes are theirs.
        tokenizer: of the captions.
        longest: tokens of a caption that are read.
        where: the weights came from.

    Attributes:
        width: of a state.

    Raises:
        UserError: a tensor is missing or has another shape.
    """

    def __init__(self, tensors: Mapping[str, Tensor], tokenizer: Any, longest: int, where: str) -> None:
        from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel, CLIPImageProcessor

        image = _part(tensors, "visual_encoder.", _IMAGE_NAMES)
        text = _part(tensors, "text_encoder.", [])
        try:
            patches = image["embeddings.patch_embedding.weight"]
            _, positions, width = image["embeddings.position_embedding"].shape
            side = round((positions - 1) ** 0.5) * patches.shape[-1]
            seen = BlipVisionConfig(
                image_size=side,
                patch_size=patches.shape[-1],
                hidden_size=width,
                intermediate_size=len(image["encoder.layers.0.mlp.fc1.weight"]),
                num_hidden_layers=_layers(image),
                num_attention_heads=max(1, width // _HEAD),
                layer_norm_eps=1e-6,
            )
            words, width = text["embeddings.word_embeddings.weight"].shape
            read = BlipTextConfig(
                vocab_size=words,
                hidden_size=width,
                encoder_hidden_size=seen.hidden_size,
                intermediate_size=len(text["encoder.layer.0.intermediate.dense.weight"]),
                num_hidden_layers=_layers(text),
                num_attention_heads=max(1, width // _HEAD),
                max_position_embeddings=len(text["embeddings.position_embeddings.weight"]),
                pad_token_id=0,
                bos_token_id=None,
                eos_token_id=None,
                sep_token_id=None,
            )
        except KeyError as error:
            raise _missing([str(error.args[0])], where) from None
        self.device = inference_device()
        self.images = _filled(BlipVisionModel(seen), image, where).to(self.device)
        self.texts = _filled(BlipTextModel(read, add_pooling_layer=False), text, where).to(self.device)
        self.tokenizer, self.longest, self.width = tokenizer, longest, width
        sizes: Any = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
        self.processor: Any = CLIPImageProcessor(**sizes)

    @torch.no_grad()
    def states(self, caption: str, images: Sequence[Any]) -> np.ndarray:
        """[n, d] float64: of each image (PIL, RGB) the first token's last state of the caption that attends to it."""
        told = self.tokenizer(caption, truncation=True, max_length=self.longest, return_tensors="pt").to(self.device)
        found = [np.zeros((0, self.width))]
        for start in range(0, len(images), _BATCH):
            some = list(images[start : start + _BATCH])
            pixels = self.processor(images=some, return_tensors="pt")["pixel_values"].to(self.device)
            states = self.texts(
                input_ids=told["input_ids"].expand(len(some), -1),
                attention_mask=told["attention_mask"].expand(len(some), -1),
                encoder_hidden_states=self.images(pixel_values=pixels).last_hidden_state,
            ).last_hidden_state[:, 0]
            found.append(states.double().cpu().numpy())
        return np.concatenate(found)


def _part(tensors: Mapping[str, Tensor], prefix: str, names: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            for theirs, ours in names:
                name = re.sub(theirs, ours, name)
            found[name] = tensor
    return found


def _layers(tensors: Mapping[str, Tensor]) -> int:
    numbers = (re.match(r"encoder\.layers?\.(\d+)\.", name) for name in tensors)
    return 1 + max((int(number[1]) for number in numbers if number), default=-1)


def _filled(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> nn.Module:
    wanted = network.state_dict()
    if absent := sorted(set(wanted) - set(tensors)):
        raise _missing(absent, where)
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            what = f"{name} has the shape {list(tensors[name].shape)} instead of {list(tensor.shape)}"
            raise UserError(what, where=where, fix="give the weights of one model")
    network.load_state_dict({name: tensors[name].float() for name in wanted})
    return network.eval()


def _missing(names: Sequence[str], where: str) -> UserError:
    what = f"no BLIP model: {names[0]} is not there" + (f", nor {len(names) - 1} more" if len(names) > 1 else "")
    return UserError(what, where=where, fix="save all tensors of the checkpoint under their own names")
