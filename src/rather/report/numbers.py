"""Numbers as a reader wants them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

MINUS = "\u2212"


def number(value: Any) -> float | None:
    """A float from what a metrics file holds, ``"NaN"`` and the like included; ``None`` when it is no number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and value.strip().lower().lstrip("+-") in {"nan", "inf", "infinity"}:
        return float(value)
    return None


def shown(value: Any, digits: int = 4) -> str:
    """A number in ``digits`` significant digits, with a true minus sign and thousands separated; others as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "\u2013"
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "\u221e" if value > 0 else f"{MINUS}\u221e"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        text = f"{value:.{digits - 1}g}"
    else:
        places = max(0, digits - 1 - math.floor(math.log10(size)))
        text = f"{value:,.{places}f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
    return text.replace("-", MINUS)


def percent(value: float, digits: int = 1) -> str:
    """A share as a percentage."""
    return f"{100 * value:.{digits}f}%".replace("-", MINUS) if math.isfinite(value) else shown(value)


def when(value: Any) -> str:
    """An ISO time stamp to the minute, with its zone; anything else as it is."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return shown(value)
    return f"{moment:%Y-%m-%d %H:%M} {moment:%Z}".strip()


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``48 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if not math.isfinite(seconds):
        return shown(seconds)
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
