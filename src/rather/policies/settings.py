"""Settings of a policy: which model, how its text is built, what of it is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PolicySettings(BaseModel):
    """Settings shared by every command that opens a model; each field is a flag and a YAML key."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(..., description="a folder, a Hugging Face name, or an alias such as smollm2-135m")
    template: Literal["auto", "chat", "none"] = Field(
        "auto", description="chat template: auto uses the model's own where it has one; none concatenates raw text"
    )
    max_length: int = Field(2048, gt=1, description="longest prompt plus response, in tokens")
    truncation: Literal["prompt_start", "response_end", "drop"] = Field(
        "prompt_start",
        description="what is cut from an over-long example: the prompt's start, the response's end; or drop it",
    )
    lora: bool = Field(False, description="train low-rank adapters (peft) instead of all weights")
    lora_rank: int = Field(16, gt=0, description="rank of the adapters")
    lora_alpha: float = Field(32.0, gt=0, description="scale of the adapters (alpha / rank)")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout inside the adapters")
    lora_targets: str = Field(
        "all-linear", description="layers that get adapters: all-linear or comma-separated names"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="compute type; weights stay in fp32. auto: bf16 where the machine has it"
    )
    encoding: Literal["auto", "shared", "padded"] = Field(
        "auto",
        description="shared computes a prompt once for all its responses, where the model allows it; padded does not",
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in backward: less memory, more time"
    )
    checkpoint_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of a language model's layers, from the first, that --gradient-checkpointing is about",
    )
    compile: bool = Field(
        False, description="compile each layer of a language model (torch.compile): slow first steps, then faster ones"
    )
    image_size: int | None = Field(
        None, ge=8, description="side of the square that images are scaled and cut to (default: the pipeline's own)"
    )
    image_buckets: bool = Field(
        False,
        description="cut images to a shape near their own proportions, of the square's area (a pair to the chosen one's)",
    )
    image_flip: bool = Field(False, description="mirror half of the images (both of a pair alike)")
    caption_drop: float = Field(
        0.1, ge=0, lt=1, description="share of image captions left out in training, so that guidance goes on working"
    )
    trust_remote_code: bool = Field(False, description="run Python code that ships with the model")
