"""How an image becomes a network's input: data, not code paths."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ModelError

COEFFICIENTS = {  # how a file's coefficients come to the network's size
    "native": "the file's own coefficients, resized in the DCT domain: nothing is decoded",
    "reencode": "decoded, resized, compressed again and read, as the Keras reference does",
}
_OLD_NAMES = {"dct": "native"}  # in files and commands of versions before 0.2
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # of ImageNet, blue first: what Keras's VGG16 and ResNet50 were trained with


def current_name(coefficients: str | None) -> str | None:
    """The name of today for what older files and commands call 'dct'; any other is given back."""
    return _OLD_NAMES.get(coefficients, coefficients) if coefficients else coefficients


@dataclass(frozen=True)
class Preset:
    """`mean` is subtracted after the channels are brought into the order `channels`; no scaling follows.

    `coefficients` is one of COEFFICIENTS.  With 'reencode', `quality` is the JPEG quality.  With 'native', `requantize`
    rounds coefficients to the quantisation steps of Pillow's tables of that quality (None: no rounding), and
    `antialias` chooses the resampler.  `shorter_side`: the image is resized to this shorter side, in pixels, and its
    middle is cut out; None: the image is stretched to the network's size.
    """

    name: str
    channels: str = "bgr"
    mean: tuple[float, ...] = _CAFFE_MEAN
    coefficients: str = "native"
    quality: int = 75  # Pillow's default, which the reference used
    requantize: int | None = 75
    antialias: bool = False
    shorter_side: int | None = None


def _torchvision(name: str, shorter_side: int) -> Preset:
    """Of torchvision's classifiers; its deviations are in the weights' first convolution."""
    return Preset(
        name,
        channels="rgb",
        mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
        coefficients="reencode",
        quality=95,
        requantize=95,
        shorter_side=shorter_side,
    )


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("voc"),
        Preset("coco", channels="rgb", mean=(0.0, 0.0, 0.0)),  # the reference's COCO generator feeds pixels untouched
        Preset(
            "imagenet",
            coefficients="reencode",  # 'native' has to round the cut to whole pixels of the file
            quality=95,  # OpenCV's default
            requantize=95,
            shorter_side=256,
        ),
        Preset("ssd_keras", mean=(104.0, 117.0, 123.0)),
        Preset("torchvision_ssd", channels="rgb", mean=(255 * 0.48235, 255 * 0.45882, 255 * 0.40784)),
        _torchvision("torchvision_imagenet", shorter_side=256),  # its IMAGENET1K_V1
        _torchvision("torchvision_imagenet_v2", shorter_side=232),
    )
}


def get_preset(name: str, coefficients: str | None = None) -> Preset:
    """The preset `name`, with `coefficients` ('native' or 'reencode') in place of its own where given.

    Raises:
        ModelError: no preset has that name, or `coefficients` is neither.
    """
    if name not in PRESETS:
        raise ModelError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    if coefficients is None:
        return PRESETS[name]
    if coefficients not in COEFFICIENTS:
        raise ModelError(f"unknown coefficients {coefficients!r}: expected {' or '.join(map(repr, COEFFICIENTS))}")
    return dataclasses.replace(PRESETS[name], coefficients=coefficients)


def prepare_image(pixels: Tensor, preset: Preset, dtype: torch.dtype = torch.float32) -> Tensor:
    """RGB pixels (N, 3, H, W), uint8 -> what an RGB network takes, on the pixels' device."""
    image = pixels.to(torch.float32)
    if preset.channels == "bgr":
        image = image.flip(1)
    if any(preset.mean):
        image = image - image.new_tensor(preset.mean).view(1, 3, 1, 1)
    return image.to(dtype)
