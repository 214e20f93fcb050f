"""PyTorch .pth of torchvision's networks -> safetensors."""

from __future__ import annotations

import os
import sys
import time
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..data.classes import COCO_CLASSES_BY_ID
from ..errors import CheckpointError, ModelError
from ..keras.convert import Conversion, check_arguments, complete
from ..keras.original import Assumption
from ..models import MODELS, create_model
from ..models.config import ResNetTrunk
from ..models.vgg import dense_to_convolution
from ..presets import PRESETS
from ..utils.files import sha256_of
from ..utils.messages import listed, shown
from ..weights import WeightsInfo, save_tensors
from .networks import NETWORKS, PRESETS_OF_FILES, TorchNetwork

_WRAPPERS = ("state_dict", "model", "model_state_dict")  # what training scripts put the tensors under
_MOST_TENSORS = 20_000
_FEATURES_MEAN = (122.99925, 116.9991, 103.9992)  # of the VGG-16 that SSD starts from, red first, not divided


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a .pth file, by name; nothing in it is executed.  CheckpointError."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}, expected a .pth file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not by mmap, which takes the neighbour's bytes where a tensor's record is shorter than its size.
            archive = zipfile.is_zipfile(path)
            held = torch.load(path, map_location="cpu", weights_only=True)
        if archive:
            _check_sums(path)
    except Exception as error:  # pickle, zip and PyTorch have each their own
        reason = str(error).splitlines()[0] if str(error) else ""
        raise CheckpointError(
            f"{path}: cannot be read as tensors alone ({type(error).__name__}: {shown(reason)}); a file that "
            "needs code to be read is not read"
        ) from None
    for wrapper in _WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(wrapper), Mapping):
            held = held[wrapper]
    if not isinstance(held, Mapping) or not all(isinstance(key, str) for key in held):
        raise CheckpointError(f"{path}: holds a {type(held).__name__}, expected tensors by name")
    if len(held) > _MOST_TENSORS:
        raise CheckpointError(f"{path}: {len(held):,} entries, no network of these has so many")
    tensors = {key.removeprefix("module."): value for key, value in held.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    return tensors


def _check_sums(path: Path) -> None:
    """Raises BadZipFile where bytes differ from their checksum, which torch.load does not look at.

    A file that was saved without checksums has 0 in their place.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.CRC and member.compress_type == zipfile.ZIP_STORED:
                with archive.open(member) as content:
                    while content.read(1 << 20):
                        pass


def identify(tensors: Mapping[str, Tensor], path: object) -> TorchNetwork:
    """The row of NETWORKS that most of the tensors belong to; CheckpointError where they are of none."""

    def fitting(row: TorchNetwork) -> int:
        return sum(key.rpartition(".")[0] in row.modules for key in tensors)

    best = max(NETWORKS, key=fitting)
    if fitting(best) < len(tensors) / 2:
        raise CheckpointError(
            f"{path}: none of torchvision's {', '.join(row.name for row in NETWORKS)}; it holds {len(tensors)} "
            "tensors: " + listed(sorted(tensors), ", ")
        )
    return best


def convert_torch(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    to: str | None = None,
    preset: str | None = None,
    class_names: tuple[str, ...] | None = None,
    num_classes: int | None = None,
    dry_run: bool = False,
) -> Conversion:
    """Converts a .pth file of one of torchvision's networks to one safetensors file.

    Args:
        source: of `torch.save(model.state_dict(), ...)`, or with it under 'state_dict' or 'model'.
        output, to, preset, class_names, num_classes, dry_run: as for `keras.convert_keras`.

    Raises:
        CheckpointError: lists what in the file does not fit.
        ModelError: an argument is impossible.
    """
    started = time.perf_counter()
    source = Path(source)
    output = Path(output) if output is not None else source.with_suffix(".safetensors")
    check_arguments(source, output, to, preset, dry_run)
    held = read_state_dict(source)
    row = identify(held, source)
    return _convert(held, row, source, output, to, preset, class_names, num_classes, dry_run, started)


def convert_torchvision(
    name: str, output: str | os.PathLike[str], *, to: str | None = None, num_classes: int | None = None
) -> Conversion:
    """As `convert_torch`, with torchvision's own weights of its network `name`, a row of `networks.NETWORKS`.

    They are taken from torch.hub's cache, or downloaded to it as torchvision does.

    Raises:
        ModelError: no row has that name.
        CheckpointError: the file cannot be had, or is not torchvision's.
    """
    from torchvision.models import get_weight

    row = next((row for row in NETWORKS if row.name == name), None)
    if row is None:
        raise ModelError(f"{name}: torchvision's are {', '.join(row.name for row in NETWORKS)}")
    url = get_weight(row.weights).url
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not cached.is_file():
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(cached), row.weights_sha256, progress=sys.stderr.isatty())
        except Exception as error:  # whatever the network or the disk raises
            raise CheckpointError(f"{url}: cannot be had ({type(error).__name__}: {shown(error)})") from None
    held = sha256_of(cached)
    if not held.startswith(row.weights_sha256):
        raise CheckpointError(
            f"{cached}: its sha256 begins with {held[:8]}, torchvision's {row.weights} with {row.weights_sha256}: "
            "remove it, so that it is fetched again"
        )
    return convert_torch(cached, output, to=to, num_classes=num_classes)


def _convert(held, row, source, output, to, preset, class_names, num_classes, dry_run, started) -> Conversion:
    problems: list[str] = []
    classes = count_classes(held, row, problems)
    channels = PRESETS[preset or row.preset].channels
    tensors, mean, used = _ours(held, row, classes, problems, channels, transfer=to is not None)
    unknown = sorted(key for key in held if key not in used and not key.endswith("num_batches_tracked"))
    if to is None:
        problems += [f"unexpected: {shown(key)} {tuple(held[key].shape)}" for key in unknown]
    if problems:
        raise CheckpointError(
            f"{source}: does not fit torchvision's {row.name} ({len(problems)} differences): " + listed(problems)
        )
    name = row.model
    left_out: list[str] = []
    if to is not None:
        trunk = MODELS[to].trunk
        if row.name == "resnet50" and isinstance(trunk, ResNetTrunk) and not trunk.stride_in_middle:
            raise ModelError(
                f"{to}: has its strides in other convolutions than torchvision's {row.name}: ssd300_{row.model}"
            )
        name = to
        tensors, left_out = _transferred(tensors, row, to, num_classes)
        classes = MODELS[to].num_classes if num_classes is None else num_classes
        left_out += [shown(key) for key in unknown]
        if not tensors:
            raise CheckpointError(f"{source}: holds torchvision's {row.name}, which has no layer in common with {to}")
    elif num_classes is not None and any(f"{top}.weight" in tensors for top in (*row.top[-1:], "class_heads.0")):
        if num_classes != classes:
            raise ModelError(f"{source}: holds {classes} classes, asked for {num_classes}")
    elif num_classes is not None:
        classes = num_classes
    detector = MODELS[name].task == "detector"
    names, names_reason = class_names, "as asked for" if class_names else None
    if class_names is not None and len(class_names) != classes:
        raise ModelError(f"{name}: {len(class_names)} class names for {classes} classes")
    if class_names is None and to is None and detector and classes == 90:
        names = COCO_CLASSES_BY_ID
        names_reason = "COCO's, by its category numbers, some of which no class has"
    same = to is None and row.scales is not None
    sha256 = sha256_of(source)
    told = PRESETS_OF_FILES.get(sha256[:8], row.preset)
    rgb = MODELS[name].inputs == "rgb"
    if not same and detector and mean is None:  # the weights keep the mean that they were trained with
        mean = PRESETS[told].mean
    info = WeightsInfo(
        name, classes, row.scales if same else (MODELS[name].anchor_scales if detector else None),
        preset or (told if not detector or same else "torchvision_ssd"), names, 1.0, shown(source.name), sha256,
        mean=mean if rgb and preset is None else None,
        **({"box_rules": row.box_rules} if same else {}),
    )  # fmt: skip
    tensors, initial = complete(info, tensors)
    parameters = sum(t.numel() for key, t in tensors.items() if "running_" not in key)
    reason = "as asked for" if preset else f"torchvision's {row.name} prepares its pixels so"
    scales_reason = (f"torchvision's {row.name}'s" if same else "the usual") if detector else None
    assumed = []
    if preset is None and not detector and row.name != "vgg16" and sha256[:8] not in PRESETS_OF_FILES:
        told = "the shorter side 256 px of IMAGENET1K_V1; V2's 232 px are in the preset torchvision_imagenet_v2"
        assumed = [Assumption(told, "preset")]
    result = Conversion(
        info, source, output, parameters, reason, scales_reason, names_reason, f"torchvision's {row.name}", False,
        initial, left_out, assumed,
    )  # fmt: skip
    if not dry_run:
        save_tensors(tensors, output, info)
        result.output_sha256 = sha256_of(output)
    result.seconds = time.perf_counter() - started
    return result


def count_classes(held: Mapping[str, Tensor], row: TorchNetwork, problems: list[str]) -> int:
    """Of the network in a file, without background; what is wrong with them goes to `problems`."""
    detector = MODELS[row.model].task == "detector"
    ours = "class_heads.0" if detector else row.top[-1]
    theirs = next(key for key, value in row.modules.items() if value == ours)
    bias = held.get(f"{theirs}.bias")
    if bias is None or bias.ndim != 1:
        return MODELS[row.model].num_classes
    per = 4 if detector else 1
    classes = len(bias) // per - (1 if detector else 0)
    if classes < 1 or len(bias) % per or classes > 100_000:
        problems.append(f"{theirs}.bias: {len(bias)} values tell no number of classes")
        return MODELS[row.model].num_classes
    return classes


def _ours(
    held: Mapping[str, Tensor], row: TorchNetwork, classes: int, problems: list[str], channels: str, transfer: bool
) -> tuple[dict[str, Tensor], tuple[float, ...] | None, set[str]]:
    """(our tensors, the mean where it is not the preset's, names of theirs that were taken).

    Convolutions without a bias get zeros.  A top that is missing, or filled with NaN as in the VGG-16 that SSD starts
    from, is left out.
    """
    with torch.device("meta"):
        wanted = create_model(row.model, classes).state_dict()
    theirs = {ours: name for name, ours in row.modules.items()}
    features_only = False
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    for key, expected in wanted.items():
        module, _, kind = key.rpartition(".")
        if kind == "num_batches_tracked":
            continue
        name = "backbone.scale_weight" if module == "source_norm" else f"{theirs[module]}.{kind}"
        value = held.get(name)
        if value is None:
            if kind == "bias" and f"{theirs.get(module)}.weight" in held and row.name == "resnet50":
                tensors[key] = torch.zeros(expected.shape)
            elif module not in row.top and not transfer:
                problems.append(f"missing: {name} {tuple(expected.shape)}")
            continue
        used.add(name)
        dense = module in row.top and value.ndim == 2 and value.shape[0] == expected.shape[0]
        if not value.is_floating_point() or value.layout != torch.strided:
            problems.append(f"{name}: dtype {value.dtype}, expected floating point")
        elif value.untyped_storage().nbytes() < value.numel() * value.element_size():
            problems.append(f"{name}: {value.numel()} values, of which the file holds fewer")
        elif value.shape != expected.shape and not (dense and value.numel() == expected.numel()):
            problems.append(f"{name}: shape {tuple(value.shape)}, expected {tuple(expected.shape)}")
        else:
            value = value.reshape(expected.shape).to(torch.float32).contiguous().clone()
            if not value.isfinite().all():
                if module in row.top and value.isnan().all():
                    features_only = True
                    continue
                problems.append(f"{name}: {int((~value.isfinite()).sum())} of its values are not finite")
            elif kind == "running_var" and value.min() < 0:
                problems.append(f"{name}: a negative variance ({value.min():g})")
            tensors[key] = value
    first = f"{row.first}.weight"
    if first in tensors:
        places = ["rgb".index(c) for c in channels]
        scale = torch.tensor([1.0 if features_only else row.deviation[place] for place in places]).double()
        tensors[first] = (tensors[first][:, places].double() / scale.view(1, 3, 1, 1)).float().contiguous()
    return tensors, _FEATURES_MEAN if features_only else None, used


def _transferred(
    tensors: dict[str, Tensor], row: TorchNetwork, to: str, num_classes: int | None
) -> tuple[dict[str, Tensor], list[str]]:
    """(what of our `tensors` the detector `to` takes, by its names; those that it has no place for)."""
    with torch.device("meta"):
        wanted = create_model(to, num_classes).state_dict()
    named = {key: key for key in tensors}
    if row.name == "vgg16":
        named |= {key: f"trunk.base.{key.removeprefix('trunk.')}" for key in tensors if key.startswith("trunk.")}
        named |= {f"{old}.{kind}": f"trunk.{new}.{kind}" for old, new in (("fc1", "fc6"), ("fc2", "fc7"))
                  for kind in ("weight", "bias")}  # fmt: skip
    taken, left_out = {}, []
    for key, value in tensors.items():
        name = named[key]
        if key.startswith(("fc1.", "fc2.")) and "trunk.fc6.bias" in wanted:
            value = dense_to_convolution(value, len(wanted["trunk.fc6.bias"]))
        if name in wanted and wanted[name].shape == value.shape:
            taken[name] = value.contiguous()
        else:
            left_out.append(key)
    return taken, left_out
