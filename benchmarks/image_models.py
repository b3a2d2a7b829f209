"""A Stable Diffusion with random weights, in the proportions of the published one, and pairs of random pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

Size = Literal["tiny", "quarter", "whole"]

_SIZES: dict[str, dict[str, Any]] = {
    # Every width a quarter of Stable Diffusion 1.5's, and as many fewer heads, so that they are as wide as there: VAE, UNet
    # and text encoder keep their shares of a step, and softmax its share of attention.
    "quarter": {
        "unet": (80, 160, 320, 320), "heads": 2, "vae": (32, 64, 128, 128), "text": 192, "layers": 12, "groups": 8,
    },
    "whole": {
        "unet": (320, 640, 1280, 1280), "heads": 8, "vae": (128, 256, 512, 512), "text": 768, "layers": 12, "groups": 32,
    },
    "tiny": {"unet": (8, 16), "heads": 2, "vae": (8, 8, 8), "text": 16, "layers": 2, "groups": 4},
}  # fmt: skip
SIZES = tuple(_SIZES)
_TOKENS = 77
_WORDS = ("red", "blue", "small", "old", "round", "house", "cat", "tree", "boat", "cloud")


def pipeline(folder: Path, size: Size, side: int, seed: int) -> str:
    """Save a ``StableDiffusionPipeline`` for images of that side; returns its folder."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    told = _SIZES[size]
    blocks, vae_blocks = len(told["unet"]), len(told["vae"])
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *[f"{letter}</w>" for letter in letters]]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=told["text"],
                intermediate_size=4 * told["text"],
                num_hidden_layers=told["layers"],
                num_attention_heads=max(1, told["text"] // 64),
                max_position_embeddings=_TOKENS,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        unet = _class("UNet2DConditionModel")(
            sample_size=side // 2 ** (vae_blocks - 1),
            block_out_channels=told["unet"],
            down_block_types=("CrossAttnDownBlock2D",) * (blocks - 1) + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (blocks - 1),
            cross_attention_dim=told["text"],
            attention_head_dim=told["heads"],  # their number, by its name of old
            norm_num_groups=told["groups"],
        )
        vae = _class("AutoencoderKL")(
            block_out_channels=told["vae"],
            down_block_types=("DownEncoderBlock2D",) * vae_blocks,
            up_block_types=("UpDecoderBlock2D",) * vae_blocks,
            layers_per_block=2,
            latent_channels=4,
            norm_num_groups=told["groups"],
            sample_size=side,
        )
    scheduler = _class("DDIMScheduler")(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    whole = _class("StableDiffusionPipeline")(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=_TOKENS),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    whole.save_pretrained(str(folder), safe_serialization=True)
    return str(folder)


def pairs(folder: Path, number: int, side: int, seed: int) -> str:
    """Write PNG files and a file of pairs, each with a caption of its own; returns the file."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    rows = []
    for row in range(number):
        names = [f"{row}-{end}.png" for end in ("chosen", "rejected")]
        for name in names:
            # Coarse colours, enlarged: noise of single pixels would be decoded as no photograph is.
            coarse = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(folder / name)
        caption = " ".join([*random.choice(_WORDS, 5), str(row)])
        rows.append({"prompt": caption, "chosen": names[0], "rejected": names[1]})
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def forward_gflops(folder: str, side: int) -> dict[str, float]:
    """10^9 operations of a forward pass of one image (``vae``: encoding; ``unet``) or caption (``text``)."""
    import torch

    whole = _class("StableDiffusionPipeline").from_pretrained(folder)
    return _gflops(whole.vae.to("meta"), whole.unet.to("meta"), whole.text_encoder.to("meta"), side, torch)


def published_gflops() -> dict[str, float]:
    """The same of Stable Diffusion 1.5 at its 512 pixels, counted on its shapes without weights."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    blocks = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    with torch.device("meta"):
        unet = _class("UNet2DConditionModel")(sample_size=64, cross_attention_dim=768)
        vae = _class("AutoencoderKL")(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=blocks[0],
            up_block_types=blocks[1],
            layers_per_block=2,
        )
        config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        text = CLIPTextModel(config)
    return _gflops(vae, unet, text, 512, torch)


def _gflops(vae: Any, unet: Any, text: Any, side: int, torch: Any) -> dict[str, float]:
    from torch.utils.flop_counter import FlopCounterMode

    latent = side // 2 ** (len(vae.config.block_out_channels) - 1)

    def count(forward: Any) -> float:
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            forward()
        return counter.get_total_flops() / 1e9

    return {
        "vae": count(lambda: vae.encode(torch.zeros(1, 3, side, side))),
        "text": count(lambda: text(torch.zeros(1, _TOKENS, dtype=torch.long))),
        "unet": count(
            lambda: unet(
                torch.zeros(1, 4, latent, latent),
                torch.zeros(1, dtype=torch.long),
                encoder_hidden_states=torch.zeros(1, _TOKENS, unet.config.cross_attention_dim),
            )
        ),
    }


def _class(name: str) -> Any:
    """A class of diffusers, untyped: its annotations are narrower than what it takes."""
    import diffusers

    return getattr(diffusers, name)
