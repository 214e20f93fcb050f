"""Which network does a Keras file hold?  Told from layer names and shapes, and from `model_config` where given."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..models import MODELS
from ..models.config import INPUT_KINDS
from ..utils.messages import shown
from .names import BUBBLIIIING, JPEG_DEEP, KERAS_APPLICATIONS, SSD_KERAS, UNNAMED, Slot, head_layers, slots
from .reader import KerasFile, Weight

_OTHERS = ("resnet50_v15", "ssd300_resnet50_v15")  # torchvision's, with the same layers
CANDIDATES = tuple(
    (name, JPEG_DEEP) for name, row in MODELS.items() if name not in _OTHERS and row.family != "mobilenet_v2"
) + (
    ("ssd300_vgg16", SSD_KERAS),
    ("ssd512_vgg16", SSD_KERAS),
    ("resnet50", KERAS_APPLICATIONS),
)
_WIDEST = 16  # times the published network: a shape beyond that is damage
_CLOSE = 4  # candidates whose names fit nearly as well are told apart by their shapes


_HEADS = ("class_heads", "box_heads")  # of a detector's state dict
_BEYOND_TRUNK = (*_HEADS, "extras", "source_norm")
_TOP = ("fc1", "fc2", "predictions", "fc1000")  # of a classifier's


@dataclass
class Match:
    """How well a file fits one network."""

    model: str
    flavour: str
    num_classes: int
    width: float
    found: dict[str, tuple[Slot, Weight]]  # by our key
    missing: list[Slot]
    problems: list[str] = field(default_factory=list)  # missing and unexpected weights, shapes that differ

    @property
    def is_transfer(self) -> bool:
        """A detector's trunk without heads, as the reference's own transfer script writes it, or a classifier without
        its top, as keras-applications has them."""
        beyond, heads = (_BEYOND_TRUNK, _HEADS) if MODELS[self.model].task == "detector" else (_TOP, _TOP)
        return (
            bool(self.missing)
            and all(_part(slot) in beyond for slot in self.missing)
            and not any(_part(slot) in heads for slot, _ in self.found.values())
        )

    @property
    def fits(self) -> bool:
        """Nothing is wrong, or nothing but a trunk's missing heads."""
        return not self.problems or (self.is_transfer and len(self.problems) == len(self.missing))


def _part(slot: Slot) -> str:
    return slot.key.partition(".")[0]


def _number(name: str) -> int:
    tail = re.search(r"_(\d+)$", name)
    return int(tail[1]) if tail else 0


def _named(file: KerasFile, rows: tuple[Slot, ...]) -> dict[str, str]:
    """{usual Keras name: the file's own name} of every layer of `rows` that the file has, under whatever name."""
    wanted = {row.layers[0]: row.layers for row in rows}
    names = {usual: next((n for n in accepted if n in file.layers), None) for usual, accepted in wanted.items()}
    for usual, (stem, index) in UNNAMED.items():
        if usual in names and names[usual] is None:
            unnamed = sorted((n for n in file.layers if re.fullmatch(rf"{stem}(_\d+)?", n)), key=_number)
            names[usual] = unnamed[index] if len(unnamed) > index else None
    used = set(names.values())
    for name in file.layers:  # Keras numbers a layer's variables anew where a session holds it twice
        base = re.sub(r"_\d+$", "", name)
        if name not in used and names.get(base, "") is None:
            names[base] = name
    return {usual: name for usual, name in names.items() if name is not None}


def _class_count(file: KerasFile, named: dict[str, str], model: str, flavour: str, default: int) -> int:
    """What most heads say; the others then differ in shape."""
    background = 1 if MODELS[model].task == "detector" else 0
    counts: Counter[int] = Counter()
    for layer, per_class in head_layers(model, flavour).items():
        weight = file.layers.get(named.get(layer, ""), {}).get("bias")
        if weight is not None and len(weight.shape) == 1 and weight.shape[0] % per_class == 0:
            counts[weight.shape[0] // per_class - background] += 1
    best = counts.most_common(1)[0][0] if counts else default
    return best if 1 <= best <= 100_000 else default


def _width(file: KerasFile, named: dict[str, str], rows: tuple[Slot, ...], heads: set[str]) -> float:
    """What most layers say; narrow layers are rounded, so the mode is taken rather than the first."""
    ratios: Counter[float] = Counter()
    for row in rows:
        weight = file.layers.get(named.get(row.layers[0], ""), {}).get("bias")
        if row.weight == "bias" and row.layers[0] not in heads and weight is not None and len(weight.shape) == 1:
            ratios[weight.shape[0] / row.shapes[0][0]] += 1
    ratios.pop(0.0, None)
    best = ratios.most_common(1)[0][0] if ratios else 1.0
    return best if best <= _WIDEST else 1.0


def match(file: KerasFile, model: str, flavour: str) -> Match:
    """Holds the file against one network, weight by weight."""
    default = MODELS[model].num_classes
    usual = slots(model, default, flavour)
    named = _named(file, usual)
    count = _class_count(file, named, model, flavour, default)
    width = _width(file, named, usual, set(head_layers(model, flavour)))
    rows = slots(model, count, flavour, width)
    result = Match(model, flavour, count, width, {}, [])
    used: set[tuple[str, str]] = set()
    for row in rows:
        layer = named.get(row.layers[0])
        weight = file.layers[layer].get(row.weight) if layer else None
        if layer is None or weight is None:
            result.missing.append(row)
            continue
        used.add((layer, row.weight))
        if weight.shape in row.shapes:
            result.found[row.key] = (row, weight)
        else:
            result.problems.append(f"{shown(layer)}/{row.weight}: shape {weight.shape}, expected {row.shapes[0]}")
    result.problems += [f"missing: {row.layers[0]}/{row.weight} {row.shapes[0]}" for row in result.missing]
    result.problems += [
        f"unexpected: {shown(layer)}/{shown(kind)} {weight.shape}"
        for layer, weights in file.layers.items()
        for kind, weight in weights.items()
        if (layer, kind) not in used
    ]
    return result


def best_match(file: KerasFile) -> Match:
    """The network that the file fits best; its `problems` are empty where it fits."""
    misfits = {}
    for model, flavour in CANDIDATES:
        rows = slots(model, MODELS[model].num_classes, flavour)
        named = _named(file, rows)
        headless = not any(row.layers[0] in named for row in rows if _part(row) in _HEADS)
        missing = {
            row.layers[0]
            for row in rows
            if row.layers[0] not in named and not (headless and _part(row) in _BEYOND_TRUNK)
        }
        misfits[model, flavour] = len(missing) + len(set(file.layers) - set(named.values()))
    least = min(misfits.values())
    matches = [match(file, *c) for c in CANDIDATES if misfits[c] <= least + _CLOSE]
    # A trunk without heads fits a classifier as badly as a detector: prefer what explains everything in the file.
    best = min(matches, key=lambda m: (not m.fits, len(m.problems)))
    if best.flavour == SSD_KERAS and _is_bubbliiiings(file):
        best.flavour = BUBBLIIIING
    return best


def _is_bubbliiiings(file: KerasFile) -> bool:
    """Its networks have ssd_keras's names and shapes, but lay anchors and prepare pixels otherwise."""
    names = {name for _, name, _ in config_layers(file.config)} | set(file.layer_names)
    return "identity_layer" not in names and any(name.endswith("_mbox_conf_flat") for name in names)


# --- model_config -----------------------------------------------------------------------------------------------


def config_layers(config: object, depth: int = 0) -> Iterator[tuple[str, str, dict]]:
    """(class name, layer name, configuration) of every layer in a `model_config`, nested models' too."""
    if depth > 8 or not isinstance(config, dict):
        return
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner if isinstance(inner, list) else None
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and isinstance(layer.get("config"), dict):
            settings = layer["config"]
            yield str(layer.get("class_name")), str(layer.get("name") or settings.get("name")), settings
            yield from config_layers(layer, depth + 1)


def network_of(config: object, depth: int = 0) -> object:
    """The part of a `model_config` that describes the network itself; a multi-GPU model wraps it."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) and depth < 8 else ():
        if isinstance(layer, dict) and layer.get("class_name") in ("Model", "Functional"):
            return network_of(layer, depth + 1)
    return config


def input_problems(config: dict | None, model: str) -> list[str]:
    """What `model_config` says of the inputs that our network would do otherwise."""
    row = MODELS[model]
    positions = {p for _, p, _ in row.input_shapes().values()}
    channels = {c for _, c, _ in INPUT_KINDS[row.inputs]}
    problems = []
    for kind, name, settings in config_layers(config):
        if settings.get("data_format") == "channels_first":
            problems.append(f"{shown(name)}: data_format channels_first, expected channels_last")
        if kind == "InputLayer":
            shape = settings.get("batch_input_shape", settings.get("batch_shape"))
            if isinstance(shape, list) and len(shape) == 4:
                if shape[3] not in channels:
                    problems.append(f"{shown(name)}: {shown(shape[3])} channels, expected one of {sorted(channels)}")
                if row.task == "detector" and shape[1] is not None and shape[1] not in positions:
                    problems.append(
                        f"{shown(name)}: {shown(shape[1])} positions a side, expected one of {sorted(positions)}"
                    )
    return problems
