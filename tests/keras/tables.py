"""The Keras networks as lists of layers, at any width: written from the papers and the reference's layer tables,
without a look at the package's own name tables, which they test.

`network(NAME)` at width 1 is held against `shared/reference/layers` where that is at hand; narrow ones become the small
checkpoints and Keras models of these tests.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SCALES = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)
SCALES_512 = (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05)
STEPS_512 = (8, 16, 32, 64, 128, 256, 512)
BOXES = (4, 6, 6, 6, 4, 4)
RATIOS = {4: (1.0, 2.0, 0.5), 6: (1.0, 2.0, 0.5, 3.0, 1 / 3)}
STEPS = (8, 16, 32, 64, 100, 300)
CLASSIFIERS = (
    "vgg16", "vgg16_dct", "vgg16_dct_y", "vgg16_dct_deconv", "resnet50", "resnet50_lcrfa", "resnet50_lcrfa_y",
    "resnet50_lcrfa_thinner", "resnet50_lcrfa_thinner_y", "resnet50_deconv_rfa",
)  # fmt: skip
NETWORKS = (*CLASSIFIERS, *(f"ssd300_{name}" for name in CLASSIFIERS), "ssd_keras_ssd300")
SSD512 = "ssd_keras_ssd512"  # its builder's second network


@dataclass(frozen=True)
class Layer:
    """One Keras layer: `weights` holds (name within the layer, shape), in Keras's order."""

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    settings: dict = field(default_factory=dict)
    weights: tuple[tuple[str, tuple[int, ...]], ...] = ()


class Network:
    """Layers in the order they are made; names the unnamed ones as a fresh Keras session does (`add_1`, ...)."""

    def __init__(self, width: float):
        self.width, self.layers, self.channels, self.unnamed = width, [], {}, Counter()
        self.outputs: tuple[str, ...] = ()

    def wide(self, channels: int) -> int:
        return channels if self.width == 1 else max(8, int(channels * self.width / 8 + 0.5) * 8)

    def add(self, kind, inputs=(), channels=None, name=None, weights=(), **settings) -> str:
        inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        if name is None:
            stem = {"MaxPooling2D": "max_pooling2d", "Conv2DTranspose": "conv2d_transpose"}.get(kind, kind.lower())
            self.unnamed[stem] += 1
            name = f"{stem}_{self.unnamed[stem]}"
        self.channels[name] = channels if channels is not None else self.channels[inputs[0]]
        self.layers.append(Layer(name, kind, inputs, settings, tuple(weights)))
        return name

    def input(self, number: int, size: int, channels: int) -> str:
        return self.add("InputLayer", (), channels, f"input_{number}", batch_input_shape=[None, size, size, channels])

    def conv(self, x, name, out, kernel=3, strides=1, padding="same", activation="relu", dilation=1) -> str:
        weights = (("kernel", (kernel, kernel, self.channels[x], out)), ("bias", (out,)))
        return self.add(
            "Conv2D", x, out, name, weights, filters=out, kernel_size=[kernel] * 2, strides=[strides] * 2,
            padding=padding, activation=activation, dilation_rate=[dilation] * 2,
        )  # fmt: skip

    def norm(self, x, name, epsilon, axis=-1) -> str:
        c = self.channels[x]
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        return self.add("BatchNormalization", x, c, name, [(p, (c,)) for p in parts], epsilon=epsilon, axis=axis)

    def pool(self, x, name=None, size=2, strides=2, padding="valid") -> str:
        return self.add("MaxPooling2D", x, None, name, pool_size=[size] * 2, strides=[strides] * 2, padding=padding)

    def pad(self, x, name, by) -> str:
        return self.add("ZeroPadding2D", x, None, name, padding=[[by, by], [by, by]])

    def relu(self, x) -> str:
        return self.add("Activation", x, activation="relu")

    def concatenate(self, parts, name=None, axis=-1) -> str:
        return self.add("Concatenate", parts, sum(self.channels[p] for p in parts), name, axis=axis)

    def dense(self, x, name, units, channels=None, activation="relu") -> str:
        channels = channels or self.channels[x]
        weights = (("kernel", (channels, units)), ("bias", (units,)))
        return self.add("Dense", x, units, name, weights, units=units, activation=activation)

    def deconv(self, x, name=None) -> str:
        weights = (("kernel", (2, 2, 64, 64)), ("bias", (64,)))
        return self.add(
            "Conv2DTranspose", x, 64, name, weights, filters=64, kernel_size=[2, 2], strides=[2, 2], padding="valid",
            activation="linear",
        )  # fmt: skip


def _split_inputs(net: Network, size: int, names: tuple[str | None, str | None]) -> str:
    luma, cb, cr = (net.input(i + 1, s, 64) for i, s in enumerate((size, size // 2, size // 2)))
    return net.concatenate([luma, net.deconv(cb, names[0]), net.deconv(cr, names[1])])


def _vgg(net: Network, kind: str, detector: bool) -> tuple[str, str]:
    """(38x38 feature map, output of block 5)."""
    size = 38 if detector else 28
    wide = net.wide
    if kind == "":
        pooling = "same" if detector else "valid"
        x = net.input(1, 300 if detector else 224, 3)
        for block, (channels, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3)), start=1):
            for i in range(count):
                x = net.conv(x, f"block{block}_conv{i + 1}", wide(channels))
            source = x
            x = net.pool(x, f"block{block}_pool", padding=pooling)
        first5 = "block5_conv1"
    elif kind == "_dct_deconv":
        x = net.norm(_split_inputs(net, size, ("deconv_cb", "deconv_cr")), "b_norm", 1e-3)
        x = net.conv(x, "block4_conv1_dct", wide(512))
        before = net.conv(x, "block4_conv2", wide(512))
        source = net.conv(before, "block4_conv3", wide(512))
        x = net.pool(before if detector else source, "block4_pool")
        first5 = "block5_conv1_dct"
    else:
        chroma = net.input(2, size // 2, 128) if kind == "_dct" else None
        x = net.norm(net.input(1, size, 64), "b_norm_y" if detector and chroma else "b_norm_64", 1e-3)
        x = net.conv(x, "block1_conv1_dct_256", wide(256))
        for name in ("block4_conv1_dct", "block4_conv2", "block4_conv3"):
            x = net.conv(x, name, wide(512))
        source = x
        x = net.pool(x, "block4_pool")
        if chroma:
            c = net.norm(chroma, "b_norm_cbcr" if detector else "b_norm_128", 1e-3)
            x = net.concatenate([x, c], "concat_dct" if detector else None)
        first5 = "block5_conv1_dct"
    for name in (first5, "block5_conv2", "block5_conv3"):
        x = net.conv(x, name, wide(512))
    return source, x


def _bottleneck(net, x, block, width, out, kernel=3, strides=1, project=False) -> str:
    def part(x, branch, out, kernel, strides, padding="valid"):
        x = net.conv(x, f"res{block}_branch{branch}", net.wide(out), kernel, strides, padding, "linear")
        return net.norm(x, f"bn{block}_branch{branch}", 1e-5, axis=3)

    y = net.relu(part(x, "2a", width, 1, strides))
    y = net.relu(part(y, "2b", width, kernel, 1, "same"))
    y = part(y, "2c", out, 1, 1)
    shortcut = part(x, "1", out, 1, strides) if project else x
    return net.relu(net.add("Add", [y, shortcut]))


def _stage(net, x, stage, blocks, width, out, strides=1, kernels=(), suffix="", identity=False, first=None) -> str:
    for i, letter in enumerate(blocks):
        block = first if first and i == 0 else f"{stage}{letter}{suffix}"
        project = i == 0 and not identity
        kernel = kernels[i] if kernels else 3
        x = _bottleneck(net, x, block, width, out, kernel, strides if project else 1, project)
    return x


def _resnet(net: Network, kind: str, detector: bool) -> tuple[str, str]:
    """(38x38 feature map, output of stage 5)."""
    size = 38 if detector else 28
    last = 1 if detector else 2  # the detector keeps 19x19
    if kind == "":
        x = net.pad(net.input(1, 300 if detector else 224, 3), "conv1_pad", 3)
        x = net.conv(x, "conv1", net.wide(64), 7, 2, "valid", "linear")
        x = net.pad(net.relu(net.norm(x, "bn_conv1", 1e-5, axis=3)), "pool1_pad", 1)
        x = _stage(net, net.pool(x, size=3), "2", "abc", 64, 256)
        source = _stage(net, x, "3", "abcd", 128, 512, strides=2)
        x = _stage(net, source, "4", "abcdef", 256, 1024, strides=2)
    elif kind == "_deconv_rfa":
        x = net.norm(_split_inputs(net, size, (None, None)), "bn_cbcr", 1e-5, axis=3)
        # The reference's detector calls the classifier's block 2a 1a.
        x = _stage(net, x, "2", "abc", 256, 1024, kernels=(1, 2, 3), first="1a" if detector else None)
        source = _stage(net, x, "3", "abcd", 128, 512)
        x = _stage(net, source, "4", "abcdef", 256, 1024, strides=2)
    else:
        thin, luma_only = "thinner" in kind, kind.endswith("_y")
        early, joint = (384, 768) if thin else (1024, 512)
        x = net.norm(net.input(1, size, 64), "bn_y", 1e-5, axis=3)
        x = _stage(net, x, "1", "abc", 256, early, kernels=(1, 2, 3), suffix="_y")
        source = _stage(net, x, "2", "abcd", 128, 384 if thin else 512, suffix="_y")
        x = _stage(net, source, "3", "a", 128, 1024 if luma_only else joint, strides=2, suffix="_y")
        if not luma_only:
            c = net.norm(net.input(2, size // 2, 128), "bn_cbcr", 1e-5, axis=3)
            c = _stage(net, c, "1", "a", 128, 256 if thin else 512, kernels=(1,), suffix="_cbcr")
            x = net.concatenate([x, c])
        x = _stage(net, x, "4", "bcdef", 256, 1024, identity=True)
    return source, _stage(net, x, "5", "abc", 512, 2048, strides=last)


def _ssd(
    net: Network, source: str, x: str, classes: int, scales: tuple[float, ...], norm="block4_conv3_norm", side=300
) -> None:
    boxes_per_cell, step_px = (BOXES, STEPS) if side == 300 else ((4, 6, 6, 6, 6, 4, 4), STEPS_512)
    gamma = [(f"{norm}_gamma", (net.channels[source],))]
    maps = [(norm, net.add("L2Normalization", source, None, norm, gamma, gamma_init=20)), ("fc7", x)]
    large = side == 512
    for name, squeeze, out, padded in (
        ("conv6", 256, 512, True), ("conv7", 128, 256, True), ("conv8", 128, 256, large), ("conv9", 128, 256, large),
    ):  # fmt: skip
        x = net.conv(x, f"{name}_1", net.wide(squeeze), 1)
        x = net.pad(x, f"{name}_padding", 1) if padded else x
        x = net.conv(x, f"{name}_2", net.wide(out), 3, 2 if padded else 1, "valid")
        maps.append((f"{name}_2", x))
    if large:
        x = net.pad(net.conv(x, "conv10_1", net.wide(128), 1), "conv10_padding", 1)
        maps.append(("conv10_2", net.conv(x, "conv10_2", net.wide(256), 4, 1, "valid")))
    parts: dict[str, list[str]] = {"conf": [], "loc": [], "priorbox": []}
    for i, ((name, x), boxes) in enumerate(zip(maps, boxes_per_cell)):
        conf = net.conv(x, f"{name}_mbox_conf", boxes * (classes + 1), activation="linear")
        loc = net.conv(x, f"{name}_mbox_loc", boxes * 4, activation="linear")
        # ssd_keras does not write steps and offsets to its files.
        steps = {} if norm == "conv4_3_norm" else {"this_steps": step_px[i], "this_offsets": 0.5}
        anchors = net.add(
            "AnchorBoxes", loc, 8, "conv4_3_norm_mbox_priorbox" if i == 0 else f"{name}_mbox_priorbox",
            img_height=side, img_width=side, this_scale=scales[i], next_scale=scales[i + 1],
            aspect_ratios=list(RATIOS[boxes]), two_boxes_for_ar1=True, **steps, clip_boxes=False,
            variances=[0.1, 0.1, 0.2, 0.2], coords="centroids", normalize_coords=True,
        )  # fmt: skip
        for what, layer, size in (("conf", conf, classes + 1), ("loc", loc, 4), ("priorbox", anchors, 8)):
            parts[what].append(net.add("Reshape", layer, size, f"{name}_mbox_{what}_reshape", target_shape=[-1, size]))
    conf, loc, anchors = (net.add("Concatenate", p, None, f"mbox_{what}", axis=1) for what, p in parts.items())
    conf = net.add("Activation", conf, None, "mbox_conf_softmax", activation="softmax")
    last, axis = ("predictions", 2) if norm == "conv4_3_norm" else ("predictions_ssd", -1)
    net.outputs = (net.concatenate([conf, loc, anchors], last, axis),)


def _ssd_keras_trunk(net: Network, side: int) -> tuple[str, str]:
    x = net.input(1, side, 3)
    for name in ("identity_layer", "input_mean_normalization", "input_channel_swap"):
        # The file's own function is marshalled Python: it must never run, so any text will do.
        closure = [[123, 117, 104]] if name == "input_mean_normalization" else None
        x = net.add("Lambda", x, None, name, function=["never run\n", None, closure], function_type="lambda")
    for block, (channels, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for i in range(count):
            x = net.conv(x, f"conv{block}_{i + 1}", net.wide(channels))
        if block == 4:
            source = x
        x = net.pool(x, f"pool{block}", *((2, 2) if block < 5 else (3, 1)), padding="same")
    return source, x


def network(
    name: str, width: float = 1, classes: int | None = None, scales: tuple[float, ...] | None = None
) -> Network:
    """The layers of `name`, one of NETWORKS or SSD512; `width` multiplies channels, to multiples of 8, at least 8."""
    side = 512 if name == SSD512 else 300
    scales = scales or (SCALES_512 if name == SSD512 else SCALES)
    net = Network(width)
    detector = name.startswith("ssd")
    classes = classes or (20 if detector else 1000)
    if name.startswith("ssd_keras"):
        source, x = _ssd_keras_trunk(net, side)
    else:
        family, _, kind = name.removeprefix("ssd300_").partition("_")
        kind = f"_{kind}" if kind else ""
        source, x = (_vgg if family == "vgg16" else _resnet)(net, kind, detector)
        if family == "vgg16":
            x = net.pool(x, "block5_pool", *((3, 1, "same") if detector else ()))
    vgg = "resnet" not in name
    if detector:
        if vgg:
            x = net.conv(net.conv(x, "fc6", net.wide(1024), 3, dilation=6), "fc7", net.wide(1024), 1)
        _ssd(
            net,
            source,
            x,
            classes,
            scales,
            "conv4_3_norm" if name.startswith("ssd_keras") else "block4_conv3_norm",
            side,
        )
    elif vgg:
        wide = net.wide(4096)
        x = net.dense(net.add("Flatten", x, None, "flatten"), "fc1", wide, 49 * net.channels[x])
        x = net.dense(net.add("Dropout", x, rate=0.5), "fc2", wide)
        net.outputs = (net.dense(net.add("Dropout", x, rate=0.5), "predictions", classes, activation="softmax"),)
    else:
        x = net.add("GlobalAveragePooling2D", x, None, "avg_pool")
        net.outputs = (net.dense(x, "fc1000", classes, activation="softmax"),)
    return net
