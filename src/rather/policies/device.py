"""Where models run that are asked rather than trained."""

from __future__ import annotations

import torch


def inference_device() -> torch.device:
    """The GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
