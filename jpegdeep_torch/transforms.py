"""JPEGs as inputs of anybody's network: what a torchvision or timm pipeline decodes and resizes with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .jpeg import ReadOptions, read_rgb
from .jpeg.options import DEFAULT_OPTIONS
from .jpeg.reader import Source


class JpegToTensor:
    """A JPEG's bytes or path to pixels of the wanted size, as `read_rgb`; for a data set's loader or as a transform.

        ImageFolder(root, loader=JpegToTensor(224, fit="crop", shorter_side=256))

    takes the place of `PIL.Image.open`, `Resize(256)` and `CenterCrop(224)`.  It can be pickled, so a DataLoader's
    workers can have it.

    Args:
        size: of the result in pixels, a side or (height, width).
        interpolation, antialias, fit, shorter_side, fill: those of `read_rgb`.
        dtype: torch.uint8, or torch.float32, of 0 to 1 as torchvision's ToTensor gives it and not rounded.
        mean, std: of each channel, of 1; what is taken off and divided by, as by torchvision's Normalize.
        options: those of `read_rgb`.

    Raises:
        ValueError: another dtype, or a mean without a std.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        interpolation: str = "bilinear",
        *,
        antialias: bool = True,
        fit: str = "stretch",
        shorter_side: int | None = None,
        fill: tuple[float, float, float] = (114.0, 114.0, 114.0),
        dtype: torch.dtype = torch.float32,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> None:
        if dtype not in (torch.uint8, torch.float32):
            raise ValueError(f"dtype is torch.uint8 or torch.float32, not {dtype}")
        if (mean is None) != (std is None) or (mean is not None and dtype != torch.float32):
            raise ValueError("mean and std come together, and with float32")
        self.size = size
        self.dtype = dtype
        self.mean, self.std = mean, std
        self.arguments: dict[str, Any] = {
            "interpolation": interpolation, "antialias": antialias, "fit": fit, "shorter_side": shorter_side,
            "fill": fill, "options": options,
        }  # fmt: skip

    def __call__(self, source: Source) -> Tensor:
        """(3, height, width) of `dtype`, RGB.  JpegError: what cannot be read."""
        name = "uint8" if self.dtype == torch.uint8 else "float32"
        pixels = torch.from_numpy(read_rgb(source, self.size, dtype=name, channels_first=True, **self.arguments))
        if self.dtype == torch.uint8:
            return pixels
        pixels.div_(255)
        if self.mean is not None and self.std is not None:
            mean, std = (torch.from_numpy(np.array(x, np.float32))[:, None, None] for x in (self.mean, self.std))
            pixels.sub_(mean).div_(std)
        return pixels

    def __repr__(self) -> str:
        stated = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items() if name != "options")
        return f"JpegToTensor({self.size}, {stated}, dtype={self.dtype}, mean={self.mean}, std={self.std})"
