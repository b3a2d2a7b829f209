"""Pairs of images: as bytes, or as paths beside the data file; the noise they were made from may be a path as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rather.data import fields
from rather.data.pairs import scores_of
from rather.data.parsed import Parsed, Row, first
from rather.data.refusal import Refused
from rather.data.types import Comparison

CAPTION = "caption|prompt|text"
CHOSEN, REJECTED = "chosen|chosen_image|image_chosen", "rejected|rejected_image|image_rejected"
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*")


def is_image(value: Any) -> bool:
    """Bytes, an object of bytes and path, or the path of an image file."""
    if isinstance(value, str):
        return "\n" not in value and Path(value).suffix.lower() in SUFFIXES
    return isinstance(value, bytes) or (isinstance(value, Mapping) and bool({"bytes", "path"} & set(value)))


def image(value: Any, name: str) -> bytes | str:
    """An image's bytes, or its path as given."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if value is None:
        raise Refused("missing-field", f"{name} is missing")
    if not isinstance(value, bytes | str):
        raise Refused("wrong-type", f"{name} is a {type(value).__name__}, not an image's bytes or path")
    if not value:
        raise Refused("empty-field", f"{name} is empty")
    if isinstance(value, bytes) and not value.startswith(_MAGIC) and value[4:8] != b"ftyp":
        raise Refused("not-an-image", f"{name} does not begin like a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF file")
    return value


def judged(row: Row) -> Parsed:
    """Two images and which won, the winner first; ties hold no preference."""
    label = fields.number(row.get("label_0"), "label_0", 0, 1)
    pair = (image(row.get("jpg_0"), "jpg_0"), image(row.get("jpg_1"), "jpg_1"))
    if label is None:
        raise Refused("missing-field", "label_0 is missing")
    if label == 0.5:
        raise Refused("tied", "label_0 says that neither image is preferred")
    return _two(row, *(pair if label > 0.5 else pair[::-1]))


def chosen(row: Row) -> Parsed:
    """The preferred image and the other, and their scores where there are some."""
    scores, used = scores_of(row)
    found = _two(row, image(first(row, CHOSEN), "chosen"), image(first(row, REJECTED), "rejected"))
    return replace(found, scores=scores, used=used)


def _two(row: Row, winner: bytes | str, loser: bytes | str) -> Parsed:
    if winner == loser:
        raise Refused("equal", "both images are the same")
    return Parsed(fields.prompt(first(row, CAPTION), "caption"), (winner, loser), ((0, 1),))


def locate(comparison: Comparison) -> Comparison:
    """Relative paths of images and of their noise, which are relative to the data file, made absolute.

    Raises:
        Refused: there is no such file.
    """
    folder = Path(comparison.source.path).expanduser().absolute().parent if comparison.source else Path.cwd()

    def absolute(value: str, what: str) -> str:
        if not (folder / value).is_file():
            raise Refused("missing-file", f"there is no {what} {folder / value}")
        return str(folder / value)

    found = tuple(absolute(value, "image") if isinstance(value, str) else value for value in comparison.responses)
    noise = comparison.extras.get("noise")
    more = {"noise": absolute(noise, "file of noise")} if isinstance(noise, str) else {}
    return replace(comparison, responses=found, extras={**comparison.extras, **more})
