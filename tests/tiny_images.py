"""Tiny random pipelines of the true classes, and pictures to train them on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiny import tiny_tokenizer


def _class(name: str) -> Any:
    """A class of diffusers, untyped: its annotations are narrower than what it takes."""
    import diffusers

    return getattr(diffusers, name)


SIDE = 32
KINDS = ("sd", "sd-v", "sdxl", "sd3", "flux")


def tiny_pipeline(folder: Path, kind: str) -> str:
    """Save a pipeline whose images have a side of 32; latents are 4 or 8 channels of 8 x 8 or 16 x 16."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = {"sd": _sd, "sd-v": _sd_v, "sdxl": _sdxl, "sd3": _sd3, "flux": _flux}[kind]()
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return str(folder)


def opened(folder: str, **settings: Any) -> Any:
    """Its policy."""
    from rather.policies.registry import open_policy
    from rather.policies.settings import PolicySettings

    told: dict[str, Any] = {"model": folder, "image_size": SIDE, "precision": "fp32"}
    return open_policy(PolicySettings.model_validate(told | settings))


def png(seed: int, size: tuple[int, int] = (40, 36), mode: str = "RGB") -> bytes:
    from PIL import Image

    channels = {"RGB": 3, "RGBA": 4, "L": 0}[mode]
    shape = (size[1], size[0], channels) if channels else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, format="PNG")
    return buffer.getvalue()


def _vae(channels: int, blocks: int = 3, **more: Any) -> Any:
    return _class("AutoencoderKL")(
        block_out_channels=(8,) * blocks,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=SIDE,
        **more,
    )


def clip_tokenizer() -> Any:
    """A tokenizer of the CLIP class, from a byte-level vocabulary."""
    from transformers import CLIPTokenizer

    vocabulary = {word: i for i, word in enumerate(_characters())}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


def _characters() -> list[str]:
    letters = [chr(code) for code in range(33, 127)]
    return ["<|startoftext|>", "<|endoftext|>", *letters, *[f"{letter}</w>" for letter in letters]]


def _clip(projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(_characters()),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def tiny_clip(folder: Path) -> str:
    """Save a random CLIP model with its processor: images of 32 x 32, 12 numbers an embedding, logit scale log 10."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    text = {"vocab_size": len(_characters()), "max_position_embeddings": 16}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=small | text,
        vision_config=small | {"image_size": SIDE, "patch_size": 8},
        projection_dim=12,
        logit_scale_init_value=float(np.log(10)),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(config).eval()
    sizes: Any = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    model.save_pretrained(str(folder))
    CLIPProcessor(CLIPImageProcessor(**sizes), clip_tokenizer()).save_pretrained(str(folder))
    return str(folder)


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=600, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return T5EncoderModel(config).eval()


def _unet(cross: int, **more: Any) -> Any:
    return _class("UNet2DConditionModel")(
        sample_size=SIDE // 4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=cross,
        attention_head_dim=4,
        norm_num_groups=4,
        **more,
    )


def _ddim(prediction: str = "epsilon") -> Any:
    return _class("DDIMScheduler")(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )


def _sd(prediction: str = "epsilon") -> Any:
    return _class("StableDiffusionPipeline")(
        vae=_vae(4),
        text_encoder=_clip(),
        tokenizer=clip_tokenizer(),
        unet=_unet(16),
        scheduler=_ddim(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sd_v() -> Any:
    return _sd("v_prediction")


def _sdxl() -> Any:
    unet = _unet(
        32,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 16,
        transformer_layers_per_block=1,
        use_linear_projection=True,
    )
    return _class("StableDiffusionXLPipeline")(
        vae=_vae(4),
        text_encoder=_clip(),
        text_encoder_2=_clip(projection=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet,
        scheduler=_ddim(),
    )


def _flow(**more: Any) -> Any:
    return _class("FlowMatchEulerDiscreteScheduler")(**more)


def _sd3() -> Any:
    transformer = _class("SD3Transformer2DModel")(
        sample_size=SIDE // 4,
        patch_size=1,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=16,
    )
    return _class("StableDiffusion3Pipeline")(
        transformer=transformer,
        scheduler=_flow(shift=3.0),
        vae=_vae(4, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(projection=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_clip(projection=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
    )


def _flux() -> Any:
    transformer = _class("FluxTransformer2DModel")(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    second = tiny_tokenizer(chat=False)
    second.pad_token = second.eos_token
    second.model_max_length = 16
    return _class("FluxPipeline")(
        scheduler=_flow(use_dynamic_shifting=True),
        vae=_vae(4, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_t5(),
        tokenizer_2=second,
        transformer=transformer,
    )


def rows(number: int, captions: Sequence[str] = ("a red square", "two blue circles", "a cat")) -> list[dict[str, Any]]:
    """Pairs as a data file has them, with images as bytes."""
    return [
        {"prompt": captions[i % len(captions)], "chosen": png(2 * i), "rejected": png(2 * i + 1)}
        for i in range(number)
    ]
