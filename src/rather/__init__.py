"""Preference optimization of generative models, with the audits that belong to it.

    rather.loss("rdpo", chosen, rejected, ref_chosen, ref_rejected)    any method's loss, in your own loop
    rather.train(...)                                                  the library's loop
    rather.get_method("kto"), rather.list_methods()                    what methods there are
    rather.estimate_flip_rate(margins=...)                             how many labels are wrong

Names are imported when first used, so that ``import rather`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rather.errors import UserError
    from rather.functional import LossOutput, loss
    from rather.inspection.flip_rate import estimate_flip_rate
    from rather.methods.base import Method
    from rather.methods.registry import get as get_method
    from rather.methods.registry import methods as list_methods
    from rather.training.run import train

_HOME = {
    "LossOutput": ("rather.functional", "LossOutput"),
    "Method": ("rather.methods.base", "Method"),
    "UserError": ("rather.errors", "UserError"),
    "estimate_flip_rate": ("rather.inspection.flip_rate", "estimate_flip_rate"),
    "get_method": ("rather.methods.registry", "get"),
    "list_methods": ("rather.methods.registry", "methods"),
    "loss": ("rather.functional", "loss"),
    "train": ("rather.training.run", "train"),
}

__all__ = [
    "LossOutput",
    "Method",
    "UserError",
    "__version__",
    "estimate_flip_rate",
    "get_method",
    "list_methods",
    "loss",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rather' has no attribute {name!r}")
    module, attribute = _HOME[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
