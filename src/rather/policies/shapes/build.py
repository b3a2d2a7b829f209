"""The pipelines of ``toy:shapes`` before they are trained: diffusers' own classes, small, with random weights."""

from __future__ import annotations

from typing import Any

from rather.policies.shapes.pixel_code import PixelCode
from rather.policies.shapes.processes import Process
from rather.worlds.shapes.words import WORDS

LONGEST = 24
"""Tokens of a caption, with the two at its ends; the longest caption has 21."""


def build(process: Process) -> Any:
    """A pipeline of 32 x 32 pixels, of the family of Stable Diffusion 1 or of FLUX."""
    return _flux() if process == "flow" else _stable_diffusion("epsilon" if process == "epsilon" else "v_prediction")


def _stable_diffusion(prediction: str) -> Any:
    import diffusers

    found: Any = diffusers
    unet = found.UNet2DConditionModel(
        sample_size=16,
        in_channels=12,
        out_channels=12,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    # At the last timestep nothing is left of the image, so that a sample's brightness is its own. Estimates of pixels are
    # cut to their range (by thresholding: the pipeline switches clip_sample off).
    scheduler = found.DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        clip_sample=False,
        steps_offset=1,
        thresholding=True,
        sample_max_value=1.0,
        timestep_spacing="trailing",
        prediction_type=prediction,
    )
    return found.StableDiffusionPipeline(
        vae=PixelCode(),
        text_encoder=_clip(2),
        tokenizer=tokenizer(),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _flux() -> Any:
    import diffusers
    from transformers import T5Config, T5EncoderModel

    found: Any = diffusers
    transformer = found.FluxTransformer2DModel(
        patch_size=1,
        in_channels=48,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=128,
        pooled_projection_dim=64,
        axes_dims_rope=(8, 12, 12),
        guidance_embeds=False,
    )
    encoder = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer()), d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0
        )
    )
    return found.FluxPipeline(
        scheduler=found.FlowMatchEulerDiscreteScheduler(),
        vae=PixelCode(),
        text_encoder=_clip(1, width=64),
        tokenizer=tokenizer(),
        text_encoder_2=encoder,
        tokenizer_2=tokenizer(),
        transformer=transformer,
    )


def _clip(layers: int, width: int = 128) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=LONGEST,
            projection_dim=width,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )


def tokenizer() -> Any:
    """One token a word of the captions."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<start>", "<end>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    ends = [("<start>", vocabulary["<start>"]), ("<end>", vocabulary["<end>"])]
    words.post_processor = TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=LONGEST,
    )
