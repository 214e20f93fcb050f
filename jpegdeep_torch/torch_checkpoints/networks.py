"""torchvision's networks as rows of a table: which of ours each is, and where its tensors go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..models.config import ANCHOR_SCALES, PUBLISHED_RULES, BoxRules

_VGG_LAYERS = (
    *("block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2", "block3_conv1", "block3_conv2", "block3_conv3"),
    *("block4_conv1", "block4_conv2", "block4_conv3", "block5_conv1", "block5_conv2", "block5_conv3"),
)
_VGG_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of the convolutions in `features`
IMAGENET_DEVIATION = tuple(255 * d for d in (0.229, 0.224, 0.225))  # red, green, blue
_RESNET_BLOCKS = {1: "abc", 2: "abcd", 3: "abcdef", 4: "abc"}


@dataclass(frozen=True)
class TorchNetwork:
    """One of torchvision's networks.

    modules: {its module: ours}; tensors of batch normalisations and convolutions have the same names in both.
    deviation: what its prepared pixels are divided by, red first, in units of 0..255; goes into the first convolution.
    top: our modules that may be missing; they start at fresh values.
    weights: torchvision's name for its own weights of it, whose file begins its sha256 with `weights_sha256`.
    """

    name: str
    model: str
    modules: Mapping[str, str]
    first: str  # our first convolution
    preset: str
    deviation: tuple[float, ...]
    weights: str
    weights_sha256: str
    megabytes: int  # of that file
    top: tuple[str, ...] = ()
    scales: tuple[float, ...] | None = None
    box_rules: BoxRules = PUBLISHED_RULES


def _vgg_module(layer: str, trunk: str) -> str:
    return f"{trunk}.{'block5' if layer.startswith('block5') else 'stem'}.{layer}"


def _ssd_modules() -> dict[str, str]:
    modules = {"backbone.extra.0.7.1": "trunk.fc6", "backbone.extra.0.7.3": "trunk.fc7"}
    for place, layer in zip((*_VGG_PLACES[:10], 1, 3, 5), _VGG_LAYERS):
        above = "extra.0" if layer.startswith("block5") else "features"
        modules[f"backbone.{above}.{place}"] = _vgg_module(layer, "trunk.base")
    for i in range(1, 5):
        modules |= {f"backbone.extra.{i}.{place}": f"extras.conv{i + 5}_{place // 2 + 1}" for place in (0, 2)}
    for i in range(6):
        modules[f"head.classification_head.module_list.{i}"] = f"class_heads.{i}"
        modules[f"head.regression_head.module_list.{i}"] = f"box_heads.{i}"
    return modules


def _vgg_modules() -> dict[str, str]:
    modules = {f"features.{p}": _vgg_module(layer, "trunk") for p, layer in zip(_VGG_PLACES, _VGG_LAYERS)}
    return modules | {"classifier.0": "fc1", "classifier.3": "fc2", "classifier.6": "predictions"}


def _resnet_modules() -> dict[str, str]:
    modules = {"conv1": "trunk.conv1", "bn1": "trunk.bn_conv1", "fc": "fc1000"}
    for layer, letters in _RESNET_BLOCKS.items():
        for i, letter in enumerate(letters):
            theirs, ours = f"layer{layer}.{i}", f"trunk.{'early' if layer < 3 else 'late'}.{layer + 1}{letter}"
            for k, branch in enumerate("abc", start=1):
                modules |= {f"{theirs}.conv{k}": f"{ours}.branch2{branch}"}
                modules |= {f"{theirs}.bn{k}": f"{ours}.branch2{branch}_bn"}
        modules[f"layer{layer}.0.downsample.0"] = f"trunk.{'early' if layer < 3 else 'late'}.{layer + 1}a.branch1"
        modules[f"layer{layer}.0.downsample.1"] = f"trunk.{'early' if layer < 3 else 'late'}.{layer + 1}a.branch1_bn"
    return modules


def _mobilenet_modules() -> dict[str, str]:
    """Ours have torchvision's names."""
    names = ["features.0.0", "features.0.1", "features.18.0", "features.18.1", "classifier.1"]
    for block in range(1, 18):
        inside = ("0.0", "0.1", "1", "2") if block == 1 else ("0.0", "0.1", "1.0", "1.1", "2", "3")  # 1 does not expand
        names += [f"features.{block}.conv.{place}" for place in inside]
    return dict(zip(names, names))


# How torchvision prepares the pixels of its own ImageNet weights, by the beginning of the file's sha256: IMAGENET1K_V1
# and V2 of resnet50, and of mobilenet_v2.
PRESETS_OF_FILES = {
    "0676ba61": "torchvision_imagenet",
    "11ad3fa6": "torchvision_imagenet_v2",
    "b0353104": "torchvision_imagenet",
    "7ebf99e0": "torchvision_imagenet_v2",
}

NETWORKS = (
    TorchNetwork(
        "ssd300_vgg16", "ssd300_vgg16", _ssd_modules(), "trunk.base.stem.block1_conv1", "torchvision_ssd", (1.0,) * 3,
        "SSD300_VGG16_Weights.COCO_V1", "b556d3b4", 143,
        scales=ANCHOR_SCALES["coco"], box_rules=BoxRules(clip="sizes", cut_before_nms=True),
    ),
    TorchNetwork(
        "vgg16", "vgg16", _vgg_modules(), "trunk.stem.block1_conv1", "torchvision_imagenet", IMAGENET_DEVIATION,
        "VGG16_Weights.IMAGENET1K_V1", "397923af", 553, top=("fc1", "fc2", "predictions"),
    ),
    TorchNetwork(
        "resnet50", "resnet50_v15", _resnet_modules(), "trunk.conv1", "torchvision_imagenet", IMAGENET_DEVIATION,
        "ResNet50_Weights.IMAGENET1K_V2", "11ad3fa6", 103, top=("fc1000",),
    ),
    TorchNetwork(
        "mobilenet_v2", "mobilenet_v2", _mobilenet_modules(), "features.0.0", "torchvision_imagenet",
        IMAGENET_DEVIATION, "MobileNet_V2_Weights.IMAGENET1K_V1", "b0353104", 14, top=("classifier.1",),
    ),
)  # fmt: skip
