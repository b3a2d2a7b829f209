"""Libraries under a pipeline say things that its user cannot act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(own: bool = True) -> Iterator[None]:
    """Without transformers' bars of loading and its notes about image processors that are not used.

    Args:
        own: also without diffusers' warning that a part of our own is none of its classes.
    """
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    levels, bars = (diffusers.get_verbosity(), transformers.get_verbosity()), transformers.is_progress_bar_enabled()
    transformers.set_verbosity_error()
    transformers.disable_progress_bar()
    if own:
        diffusers.set_verbosity_error()
    try:
        yield
    finally:
        diffusers.set_verbosity(levels[0])
        transformers.set_verbosity(levels[1])
        if bars:
            transformers.enable_progress_bar()
