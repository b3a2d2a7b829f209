"""What a base model of shapes predicts."""

from typing import Literal

Process = Literal["epsilon", "v", "flow"]
"""A UNet that predicts noise, a UNet that predicts v, a transformer that predicts velocities of a rectified flow."""
