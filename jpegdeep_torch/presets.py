"""How an image becomes a network's input: data, not code paths."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ModelError

_CAFFE_MEAN = (103.939, 116.779, 123.68)  # of ImageNet, blue first: what Keras's VGG16 and ResNet50 were trained with


@dataclass(frozen=True)
class Preset:
    """`mean` is subtracted after the channels are brought into the order `channels`; no scaling follows.

    `dct` says how coefficients come to the network's size: 'reencode' decodes, resizes and compresses again at JPEG
    quality `quality`, as the reference does; 'dct' resizes the file's own coefficients, and nothing is decoded.  With
    'dct', `requantize` rounds them to the quantisation steps of Pillow's tables of that quality (None: no rounding),
    and `antialias` chooses the resampler.  `shorter_side`: the image is resized to this shorter side and its middle cut
    out; None: it is stretched to the network's size.
    """

    name: str
    channels: str = "bgr"
    mean: tuple[float, float, float] = _CAFFE_MEAN
    dct: str = "dct"
    quality: int = 75  # Pillow's default, which the reference used
    requantize: int | None = 75
    antialias: bool = False
    shorter_side: int | None = None


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("voc"),
        Preset("coco", channels="rgb", mean=(0.0, 0.0, 0.0)),  # the reference's COCO generator feeds pixels untouched
        Preset(
            "imagenet",
            dct="reencode",  # 'dct' has to round the cut to whole pixels of the file
            quality=95,  # OpenCV's default
            requantize=95,
            shorter_side=256,
        ),
        Preset("ssd_keras", mean=(104.0, 117.0, 123.0)),
    )
}


def get_preset(name: str, dct: str | None = None) -> Preset:
    """The preset `name`, with its way to coefficients replaced by `dct` where given."""
    if name not in PRESETS:
        raise ModelError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    if dct not in (None, "reencode", "dct"):
        raise ModelError(f"unknown way to coefficients {dct!r}: expected 'reencode' or 'dct'")
    return dataclasses.replace(PRESETS[name], dct=dct) if dct else PRESETS[name]


def prepare_image(pixels: Tensor, preset: Preset, dtype: torch.dtype = torch.float32) -> Tensor:
    """RGB pixels (N, 3, H, W), uint8 -> what an RGB network takes, on the pixels' device."""
    image = pixels.to(torch.float32)
    if preset.channels == "bgr":
        image = image.flip(1)
    if any(preset.mean):
        image = image - image.new_tensor(preset.mean).view(1, 3, 1, 1)
    return image.to(dtype)
