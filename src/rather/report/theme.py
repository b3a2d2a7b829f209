"""The report's colours, once for each theme.

The four line colours are told apart by people with any of the common colour-vision deficiencies (after Okabe and Ito,
darkened for the light theme) and each line has its own dash besides.
"""

from __future__ import annotations

LIGHT = {
    "page": "#ffffff",
    "panel": "#f5f6f8",
    "ink": "#17191d",
    "soft": "#535963",
    "rule": "#d5d9df",
    "link": "#0b57a4",
    "good": "#0a6b3d",
    "poor": "#a8321c",
    "note": "#fff6e0",
    "note-rule": "#b07a00",
    "line-1": "#0b62a8",
    "line-2": "#c05200",
    "line-3": "#8a3f83",
}
DARK = {
    "page": "#14161a",
    "panel": "#1e2126",
    "ink": "#eceef1",
    "soft": "#abb2bd",
    "rule": "#383d46",
    "link": "#84bdf5",
    "good": "#68cf97",
    "poor": "#ff9d85",
    "note": "#2c2514",
    "note-rule": "#d3a03a",
    "line-1": "#5db2ee",
    "line-2": "#f3a257",
    "line-3": "#dd96d5",
}

TEXT_ON = (
    ("ink", "page"),
    ("ink", "panel"),
    ("ink", "note"),
    ("soft", "page"),
    ("soft", "panel"),
    ("link", "page"),
    ("link", "panel"),
    ("link", "note"),
    ("good", "page"),
    ("good", "panel"),
    ("poor", "page"),
    ("poor", "panel"),
)
"""Every pair of text colour and background in use; each has a contrast of at least 4.5 in both themes."""


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two ``#rrggbb`` colours by WCAG 2.2, from 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def variables(colours: dict[str, str]) -> str:
    """CSS custom properties."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
