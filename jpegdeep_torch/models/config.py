"""Every network as a row of one table.

A row states only what sets a network apart; `models/vgg.py`, `models/resnet.py`, `models/mobilenet_v2.py`,
`models/ssd.py` and `models/ssdlite.py` build what it says.  Layer names are those of the Keras originals, so that a
checkpoint can be matched by name; MobileNetV2's are torchvision's.
"""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass, field

from ..errors import ModelError

# As fractions of the image side, from the SSD papers' configurations for each data set.
ANCHOR_SCALES: dict[str, tuple[float, ...]] = {
    "voc": (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05),
    "coco": (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
}
ANCHOR_SCALES_512: dict[str, tuple[float, ...]] = {  # of SSD512
    "voc": (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05),
    "coco": (0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06),
}


@dataclass(frozen=True)
class FeatureMap:
    """One of the maps that an SSD's heads read."""

    layer: str  # whose output it is
    cells: int  # positions a side
    step_px: int  # between neighbouring anchors' centres
    aspect_ratios: tuple[float, ...]  # each with its inverse, and 1 twice

    @property
    def boxes(self) -> int:
        """Anchors at each position."""
        return 2 + 2 * len(self.aspect_ratios)


@dataclass(frozen=True)
class ExtraLayer:
    """A 1x1 convolution and the one after it, beyond the trunk."""

    name: str
    squeeze: int
    out: int
    stride: int
    padding: int
    kernel: int = 3


def _feature_maps(cells: tuple[int, ...], steps_px: tuple[int, ...]) -> tuple[FeatureMap, ...]:
    layers = ("source", "fc7", *(f"conv{i}_2" for i in range(6, 4 + len(cells))))
    last = len(cells) - 2  # the source and the last two maps have no elongated boxes
    ratios = ((2.0,) if i == 0 or i >= last else (2.0, 3.0) for i in range(len(cells)))
    return tuple(map(FeatureMap, layers, cells, steps_px, ratios))


FEATURE_MAPS = {  # by the image's side in pixels
    300: _feature_maps((38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)),
    512: _feature_maps((64, 32, 16, 8, 4, 2, 1), (8, 16, 32, 64, 128, 256, 512)),
}
_FIRST_EXTRAS = (ExtraLayer("conv6", 256, 512, 2, 1), ExtraLayer("conv7", 128, 256, 2, 1))
EXTRA_LAYERS = {
    300: (*_FIRST_EXTRAS, ExtraLayer("conv8", 128, 256, 1, 0), ExtraLayer("conv9", 128, 256, 1, 0)),
    512: (
        *_FIRST_EXTRAS,
        ExtraLayer("conv8", 128, 256, 2, 1),
        ExtraLayer("conv9", 128, 256, 2, 1),
        ExtraLayer("conv10", 128, 256, 1, 1, kernel=4),
    ),
}
SSDLITE_EXTRA_LAYERS = {  # beyond MobileNetV2, whose last map, of stride 32, is the third that the heads read
    300: (
        ExtraLayer("conv7", 128, 256, 2, 1),
        ExtraLayer("conv8", 128, 256, 2, 1),
        ExtraLayer("conv9", 64, 128, 1, 0),
    ),
}


@dataclass(frozen=True)
class BoxRules:
    """How a detector's anchors and boxes differ from the SSD papers', where its weights were trained so.

    steps: of the anchors' centres: 'published', or 'even': the image's side over the positions.
    clip: of the anchors: 'none'; 'corners': corners outside the image go to pixel 0 or to the last one (ssd_keras's
        `clip_boxes`); 'image': corners are cut at the image's borders; 'sizes': width and height are at most the
        image's (torchvision).
    cut_before_nms: boxes are cut to the image before NMS rather than after it (torchvision).
    """

    steps: str = "published"
    clip: str = "none"
    cut_before_nms: bool = False


PUBLISHED_RULES = BoxRules()
ANCHOR_STEPS = ("published", "even")
ANCHOR_CLIPS = ("none", "corners", "image", "sizes")

INPUT_KINDS = {  # kind -> the tensors a network takes, as (name, channels, pixels per position)
    "rgb": (("image", 3, 1),),
    "dct": (("luma", 64, 8), ("chroma", 128, 16)),
    "dct_y": (("luma", 64, 8),),
    "dct_split": (("luma", 64, 8), ("cb", 64, 16), ("cr", 64, 16)),
}


@dataclass(frozen=True)
class VGGTrunk:
    """A VGG-16 trunk: `stem` runs up to the 38x38 feature map, `block5` follows the pool after it.

    `stem` holds (layer name, output channels), and 'pool' for a 2x2 max-pool.
    """

    stem: tuple[tuple[str, int] | str, ...]
    block5: tuple[str, str, str]
    luma_norm: str | None = None  # BatchNormalization in front of the luma
    chroma_norm: str | None = None  # ... and of the chroma, which then joins in front of block 5
    deconv: bool = False  # chroma enlarged by two transposed convolutions and joined to the luma at the entry
    source_is_branch: bool = False  # the detector's 38x38 feature map leaves by the side: the pool takes its input


@dataclass(frozen=True)
class Stage:
    """Bottlenecks `blocks` of one ResNet stage; the first projects its shortcut unless `identity`."""

    number: str
    blocks: str
    width: int
    out: int
    stride: int = 1
    kernels: tuple[int, ...] = ()  # of each block's middle convolution; 3 where not given
    suffix: str = ""
    identity: bool = False


@dataclass(frozen=True)
class ResNetTrunk:
    """A ResNet-50 trunk: `early` runs up to the 38x38 feature map, `late` to the 19x19 one."""

    early: tuple[Stage, ...]
    late: tuple[Stage, ...]
    luma: tuple[Stage, ...] = ()  # stages between `early` and the joint with the chroma
    chroma: tuple[Stage, ...] = ()
    stem: bool = False  # the 7x7 convolution and the pool of the RGB network
    luma_norm: str | None = None
    deconv: bool = False
    stride_in_middle: bool = False  # of a block: in the 3x3, as torchvision's, rather than in the first 1x1


@dataclass(frozen=True)
class InvertedResiduals:
    """`repeats` blocks of MobileNetV2, each with `expand` times its input's channels inside; the first has `stride`."""

    expand: int
    out: int
    repeats: int
    stride: int


@dataclass(frozen=True)
class MobileNetTrunk:
    """A MobileNetV2 trunk (arXiv 1801.04381, table 2); a DCT network has a `stem` in place of its layers 0 to 6."""

    blocks: tuple[InvertedResiduals, ...]
    first: int = 32  # channels of the first convolution
    last: int = 1280  # channels of the classifier's last convolution, which detectors do without
    stem: str = ""  # a key of stems.STEMS


@dataclass(frozen=True)
class ModelConfig:
    """One network.  `trunk` and `inputs` say what it is made of, the other fields what a caller may change."""

    name: str
    task: str  # 'detector' or 'classifier'
    inputs: str  # a key of INPUT_KINDS
    trunk: VGGTrunk | ResNetTrunk | MobileNetTrunk
    num_classes: int  # without the background
    image_size: int  # pixels
    anchor_scales: tuple[float, ...] = field(default=ANCHOR_SCALES["voc"])
    width: float = 1.0  # multiplies the channels of trunk and extra layers
    box_rules: BoxRules = PUBLISHED_RULES

    @property
    def family(self) -> str:
        families = {VGGTrunk: "vgg16", ResNetTrunk: "resnet50", MobileNetTrunk: "mobilenet_v2"}
        return families[type(self.trunk)]

    @property
    def feature_maps(self) -> tuple[FeatureMap, ...]:
        """A detector's."""
        return FEATURE_MAPS[self.image_size]

    @property
    def known_scales(self) -> dict[str, tuple[float, ...]]:
        """A detector's anchor scales, by data set."""
        return ANCHOR_SCALES_512 if self.image_size == 512 else ANCHOR_SCALES

    @property
    def is_dct(self) -> bool:
        return self.inputs != "rgb"

    def input_shapes(self, image_size: int | None = None) -> dict[str, tuple[int, int, int]]:
        """{input name: (channels, rows, columns)} for a square image of `image_size` px (default: its own)."""
        size = image_size or self.image_size
        return {name: (c, -(-size // px), -(-size // px)) for name, c, px in INPUT_KINDS[self.inputs]}


_BLOCK5 = ("block5_conv1_dct", "block5_conv2", "block5_conv3")
_DCT_STEM = (("block1_conv1_dct_256", 256), ("block4_conv1_dct", 512), ("block4_conv2", 512), ("block4_conv3", 512))

_VGG = {
    "vgg16": ("rgb", VGGTrunk(
        stem=(
            ("block1_conv1", 64), ("block1_conv2", 64), "pool",
            ("block2_conv1", 128), ("block2_conv2", 128), "pool",
            ("block3_conv1", 256), ("block3_conv2", 256), ("block3_conv3", 256), "pool",
            ("block4_conv1", 512), ("block4_conv2", 512), ("block4_conv3", 512),
        ),
        block5=("block5_conv1", "block5_conv2", "block5_conv3"),
    )),
    "vgg16_dct": ("dct", VGGTrunk(_DCT_STEM, _BLOCK5, luma_norm="b_norm_y", chroma_norm="b_norm_cbcr")),
    "vgg16_dct_y": ("dct_y", VGGTrunk(_DCT_STEM, _BLOCK5, luma_norm="b_norm_y")),
    "vgg16_dct_deconv": ("dct_split", VGGTrunk(
        _DCT_STEM[1:], _BLOCK5, luma_norm="b_norm", deconv=True, source_is_branch=True,
    )),
}  # fmt: skip


def _lcrfa(out: int, joint: int, chroma: int) -> ResNetTrunk:
    """Late concatenation, receptive field aware: luma stages widen the receptive field as RGB's early layers do."""
    return ResNetTrunk(
        early=(
            Stage("1", "abc", 256, out if out == 384 else 1024, kernels=(1, 2, 3), suffix="_y"),
            Stage("2", "abcd", 128, out, suffix="_y"),
        ),
        luma=(Stage("3", "a", 128, joint, stride=2, suffix="_y"),),
        chroma=(Stage("1", "a", 128, chroma, kernels=(1,), suffix="_cbcr"),) if chroma else (),
        late=(Stage("4", "bcdef", 256, 1024, identity=True), Stage("5", "abc", 512, 2048, stride=2)),
        luma_norm="bn_y",
    )


_RESNET = {
    "resnet50": ("rgb", ResNetTrunk(
        stem=True,
        early=(Stage("2", "abc", 64, 256), Stage("3", "abcd", 128, 512, stride=2)),
        late=(Stage("4", "abcdef", 256, 1024, stride=2), Stage("5", "abc", 512, 2048, stride=2)),
    )),
    "resnet50_v15": ("rgb", ResNetTrunk(
        stem=True,
        early=(Stage("2", "abc", 64, 256), Stage("3", "abcd", 128, 512, stride=2)),
        late=(Stage("4", "abcdef", 256, 1024, stride=2), Stage("5", "abc", 512, 2048, stride=2)),
        stride_in_middle=True,
    )),
    "resnet50_lcrfa": ("dct", _lcrfa(out=512, joint=512, chroma=512)),
    "resnet50_lcrfa_y": ("dct_y", _lcrfa(out=512, joint=1024, chroma=0)),
    "resnet50_lcrfa_thinner": ("dct", _lcrfa(out=384, joint=768, chroma=256)),
    "resnet50_lcrfa_thinner_y": ("dct_y", _lcrfa(out=384, joint=1024, chroma=0)),
    "resnet50_deconv_rfa": ("dct_split", ResNetTrunk(
        early=(Stage("2", "abc", 256, 1024, kernels=(1, 2, 3)), Stage("3", "abcd", 128, 512)),
        late=(Stage("4", "abcdef", 256, 1024, stride=2), Stage("5", "abc", 512, 2048, stride=2)),
        luma_norm="bn_cbcr",
        deconv=True,
    )),
}  # fmt: skip

_MOBILENET_BLOCKS = tuple(
    InvertedResiduals(*row)
    for row in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    )
)  # fmt: skip
_MOBILENET = {
    "mobilenet_v2": ("rgb", MobileNetTrunk(_MOBILENET_BLOCKS)),
    "mobilenet_v2_dct": ("dct", MobileNetTrunk(_MOBILENET_BLOCKS, stem="medium")),
    "mobilenet_v2_dct_small": ("dct", MobileNetTrunk(_MOBILENET_BLOCKS, stem="small")),
    "mobilenet_v2_dct_y": ("dct_y", MobileNetTrunk(_MOBILENET_BLOCKS, stem="small")),
}


def _table() -> dict[str, ModelConfig]:
    rows = {}
    for name, (inputs, trunk) in (_VGG | _RESNET | _MOBILENET).items():
        rows[f"ssd300_{name}"] = ModelConfig(
            f"ssd300_{name}", "detector", inputs, trunk, num_classes=20, image_size=300
        )
        rows[name] = ModelConfig(name, "classifier", inputs, trunk, num_classes=1000, image_size=224)
    for name in ("vgg16", "vgg16_dct"):
        inputs, trunk = _VGG[name]
        rows[f"ssd512_{name}"] = ModelConfig(
            f"ssd512_{name}", "detector", inputs, trunk, 20, image_size=512, anchor_scales=ANCHOR_SCALES_512["voc"]
        )
    return rows


MODELS = _table()


def list_models(pattern: str = "*") -> list[str]:
    """Names of all networks that match a shell pattern such as 'ssd300_*_dct*', sorted."""
    return sorted(fnmatch.filter(MODELS, pattern))


def model_config(name: str) -> ModelConfig:
    """The row called `name`; ModelError, naming the known ones, where there is none."""
    if name not in MODELS:
        raise ModelError(f"unknown model {name!r}: expected one of {', '.join(list_models())}")
    return MODELS[name]


def checked_scales(config: ModelConfig, scales: tuple[float, ...] | str) -> tuple[float, ...]:
    """The scales that `scales` are: 'voc', 'coco' or numbers, one per feature map and one.  Raises ModelError."""
    if config.task != "detector":
        raise ModelError(f"{config.name}: a classifier has no anchor scales, got {scales!r}")
    known, count = config.known_scales, len(config.feature_maps) + 1
    if isinstance(scales, str):
        if scales not in known:
            raise ModelError(
                f"unknown anchor scales {scales!r}: expected one of {', '.join(known)}, or {count} numbers"
            )
        return known[scales]
    values = tuple(float(s) for s in scales)
    if len(values) != count or not all(math.isfinite(s) and s > 0 for s in values):
        raise ModelError(f"{config.name}: anchor scales are {values}, expected {count} positive numbers")
    return values
