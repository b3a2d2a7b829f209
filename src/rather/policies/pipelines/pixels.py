"""Images as the pixels that a VAE takes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from rather.data.refusal import Refused
from rather.policies.pipelines.buckets import Shape

_ORIENTATION, _SIDEWAYS = 0x0112, range(5, 9)  # EXIF: how a picture was held; four ways exchange its sides


@dataclass(frozen=True)
class Framed:
    """What is cut out of an image.

    Attributes:
        pixels: [3, H, W] float32 in [-1, 1].
        framing: height and width before, top and left of the cut after scaling, height and width after; what Stable
            Diffusion XL is told of an image.
    """

    pixels: np.ndarray
    framing: tuple[int, int, int, int, int, int]


def framed(source: bytes | str, shape: Shape, *, flip: bool = False) -> Framed:
    """Read an image, put it on white where it is transparent, scale it until it covers ``shape``, cut the middle.

    Raises:
        Refused: it is missing, or no image that can be read.
    """
    from PIL import Image, ImageOps

    image = read_image(source)
    height, width = image.height, image.width
    high, wide = shape
    scale = max(high / height, wide / width)
    scaled = (max(wide, round(width * scale)), max(high, round(height * scale)))
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (scaled[0] - wide) // 2, (scaled[1] - high) // 2
    image = image.crop((left, top, left + wide, top + high))
    if flip:
        image = ImageOps.mirror(image)
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1
    return Framed(pixels, (height, width, top, left, high, wide))


def shape_of(source: bytes | str) -> Shape:
    """Height and width of an image as it is shown; pixels are decoded only where EXIF may come after them (PNG).

    Raises:
        Refused: it is missing, or no image that can be read.
    """
    with _opened(source) as image:
        turned = image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS
        return (image.width, image.height) if turned else (image.height, image.width)


def read_image(source: bytes | str) -> Any:
    """A PIL image in RGB, upright, on white where it is transparent.

    Raises:
        Refused: it is missing, or no image that can be read.
    """
    from PIL import Image, ImageOps

    with _opened(source) as opened:
        image = ImageOps.exif_transpose(opened)
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, image)
        return image.convert("RGB")


@contextmanager
def _opened(source: bytes | str) -> Iterator[Any]:
    """The image file; what goes wrong while it is open is said of it."""
    from PIL import Image

    name = "the image" if isinstance(source, bytes) else source
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            yield image
    except FileNotFoundError:
        raise Refused("missing-file", f"there is no image {name}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused("not-an-image", f"{name} cannot be read: {str(error).splitlines()[0]}") from None


def pixels_of(image: Any) -> np.ndarray:
    """[height, width, 3] uint8 of a PIL image in RGB."""
    return np.asarray(image, np.uint8)


def png(image: Any) -> bytes:
    """The file of a PIL image."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
