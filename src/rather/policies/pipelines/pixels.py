"""Images as the pixels that a VAE takes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from rather.data.refusal import Refused


@dataclass(frozen=True)
class Framed:
    """A square cut out of an image.

    Attributes:
        pixels: [3, S, S] float32 in [-1, 1].
        framing: height and width before, top and left of the cut after scaling, height and width after; what Stable
            Diffusion XL is told of an image.
    """

    pixels: np.ndarray
    framing: tuple[int, int, int, int, int, int]


def framed(source: bytes | str, size: int, *, flip: bool = False) -> Framed:
    """Read an image, put it on white where it is transparent, scale its shorter side to ``size``, cut the middle.

    Raises:
        Refused: it is missing, or no image that can be read.
    """
    from PIL import Image, ImageOps

    image = read_image(source)
    height, width = image.height, image.width
    scale = size / min(height, width)
    scaled = (max(size, round(width * scale)), max(size, round(height * scale)))
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    image = image.crop((left, top, left + size, top + size))
    if flip:
        image = ImageOps.mirror(image)
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1
    return Framed(pixels, (height, width, top, left, size, size))


def read_image(source: bytes | str) -> Any:
    """A PIL image in RGB, upright, on white where it is transparent.

    Raises:
        Refused: it is missing, or no image that can be read.
    """
    from PIL import Image, ImageOps

    name = "the image" if isinstance(source, bytes) else source
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            image = ImageOps.exif_transpose(opened)
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, (255, 255, 255, 255))
                image = Image.alpha_composite(white, image)
            return image.convert("RGB")
    except FileNotFoundError:
        raise Refused("missing-file", f"there is no image {name}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused("not-an-image", f"{name} cannot be read: {str(error).splitlines()[0]}") from None
