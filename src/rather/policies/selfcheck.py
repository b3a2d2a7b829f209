"""Which form of input a loaded model computes rightly, found out by trying.

Architectures differ in ways that a name does not tell, and a model that ignores a mask is silently wrong. So the fast
forms are compared with one sequence at a time through the model's own full forward pass: values and a gradient.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rather.policies.forms import padded_inputs, shared_inputs
from rather.policies.scorer import LanguageScorer
from rather.policies.tokenization import Tokens

Form = Literal["shared", "padded", "full"]

_SHAPE = ((11, (5, 3, 7)), (1, (2, 4)), (6, (1, 1)))  # prompt length, response lengths
_TOLERANCE = 1e-3  # float32 rounding is far below, a wrong mask far above


def choose_form(scorer: LanguageScorer, tokenizer: Any, encoding: str) -> tuple[Form, str | None]:
    """The fastest form that is right for this model, and one sentence to warn with where it is not the wanted one."""
    raise NotImplementedError
