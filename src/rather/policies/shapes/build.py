"""The pipelines of ``toy:shapes`` before they are trained: diffusers' own classes, small, with random weights."""

from __future__ import annotations

from typing import Any

from rather.policies.shapes.autoencoder import ShapesAutoencoder
from rather.policies.shapes.processes import Process
from rather.worlds.shapes.words import WORDS

WIDTH = 128
"""Of text encoders."""
LONGEST = 24
"""Tokens of a caption, with the two at its ends; the longest caption has 21."""


def build(process: Process, autoencoder: ShapesAutoencoder) -> Any:
    """A pipeline of 32 x 32 pixels, of the family of Stable Diffusion 1 or of FLUX."""
    if process == "flow":
        return _flux(autoencoder)
    return _stable_diffusion("epsilon" if process == "epsilon" else "v_prediction", autoencoder)


def _stable_diffusion(prediction: str, autoencoder: ShapesAutoencoder) -> Any:
    import diffusers

    found: Any = diffusers
    unet = found.UNet2DConditionModel(
        sample_size=8,
        in_channels=12,
        out_channels=12,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        # All of the caption beside the timestep, and not only what positions ask for.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    # Where v is predicted, nothing is left of the image at the last timestep, so that a sample's background is its own. A
    # network that predicts noise could not tell an image from there: it has the schedule of Stable Diffusion 1.
    betas = (
        {"beta_schedule": "squaredcos_cap_v2"}
        if prediction == "v_prediction"
        else {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    )
    scheduler = found.DDIMScheduler(
        **betas,
        clip_sample=False,
        steps_offset=1,
        timestep_spacing="trailing",
        prediction_type=prediction,
    )
    return found.StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=_clip(),
        tokenizer=tokenizer(),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _flux(autoencoder: ShapesAutoencoder) -> Any:
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
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(8, 12, 12),
        guidance_embeds=False,
    )
    encoder = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer()), d_model=WIDTH, d_kv=32, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0
        )
    )
    return found.FluxPipeline(
        scheduler=found.FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder,
        text_encoder=_clip(),
        tokenizer=tokenizer(),
        text_encoder_2=encoder,
        tokenizer_2=tokenizer(),
        transformer=transformer,
    )


def _clip() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LONGEST,
            projection_dim=WIDTH,
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
