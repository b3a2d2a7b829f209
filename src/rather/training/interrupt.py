"""Ctrl-C and SIGTERM: finish the step in flight, then stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_interrupt(ask: Callable[[], bool]) -> Iterator[None]:
    """Call ``ask`` at the first signal; when it returns False, and at the second signal, raise ``KeyboardInterrupt``.

    Does nothing outside the main thread, where Python does not let handlers be set.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, frame: Any) -> None:
        nonlocal asked
        if asked or not ask():
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
