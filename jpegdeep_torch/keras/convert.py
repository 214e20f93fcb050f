"""Keras .h5 -> safetensors."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..data.classes import KNOWN_CLASSES
from ..errors import CheckpointError, ModelError
from ..models import MODELS, checked_scales, create_model, model_config
from ..models.config import ANCHOR_CLIPS, ANCHOR_STEPS
from ..presets import PRESETS
from ..utils.files import check_target, sha256_of
from ..utils.messages import listed, shown
from ..weights import WeightsInfo, save_tensors
from .identify import Match, best_match, input_problems
from .names import BUBBLIIIING, SSD_KERAS, Piece
from .original import SSD_KERAS_MEAN, Assumption, Original, Settings, numbers, read_original
from .reader import KerasFile, Weight, open_keras
from .transfer import plan_transfer

_MOST_FRESH = 200_000_000  # weights, of networks that a file gives hardly anything of
_INITIAL_SEED = 0  # of the weights that no file gives


@dataclass
class Conversion:
    """What a conversion did, or would do."""

    info: WeightsInfo
    source: Path
    output: Path
    parameters: int
    preset_reason: str
    scales_reason: str | None
    classes_reason: str | None
    origin: str  # 'Keras 2.2.4, whole model', ...
    raw_pixels: bool  # the original prepares its pixels itself, as ssd_keras's networks do
    initial: list[str] = field(default_factory=list)  # our keys that stayed at their initial value
    left_out: list[str] = field(default_factory=list)  # Keras weights that a transfer has no place for
    assumed: list[Assumption] = field(default_factory=list)
    variances: list[tuple[float, ...]] = field(default_factory=list)  # the original's, by feature map; empty: the usual
    output_sha256: str | None = None
    seconds: float = 0.0


def convert_keras(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    to: str | None = None,
    preset: str | None = None,
    scales: str | tuple[float, ...] | None = None,
    class_names: tuple[str, ...] | None = None,
    num_classes: int | None = None,
    settings: Settings | None = None,
    dry_run: bool = False,
    progress: bool = False,
) -> Conversion:
    """Converts a Keras checkpoint of jpeg_deep or ssd_keras to one safetensors file.

    Args:
        source: .h5 file, of `save_weights` or of `model.save`; the optimizer state is not read.
        output: by default `source` with the ending .safetensors.  It appears only when it is complete.
        to: a detector to start from a classifier's weights; what they do not give gets seeded initial values.
        preset: overrides the one told from the file.
        scales: anchor scales ('voc', 'coco' or seven numbers) where the file does not say or says wrong.
        class_names: stored with the weights; as many as the network has classes.
        num_classes: of a detector that the file gives no heads for.
        settings: of the original's pixels, anchors and batch normalisation, where the file does not say or says wrong.
        dry_run: read and check everything, write nothing.
        progress: show a bar on a terminal.

    Raises:
        CheckpointError: lists everything in the file that does not fit.
        ModelError: an argument is impossible.
    """
    started = time.perf_counter()
    source = Path(source)
    output = Path(output) if output is not None else source.with_suffix(".safetensors")
    check_arguments(source, output, to, preset, dry_run)
    settings = settings or Settings()
    _check_settings(settings)
    with open_keras(source) as file, _bar(source, progress) as bar:
        found = best_match(file)
        original = read_original(file, found, settings)
        _refuse(file, found, original, transfer=to is not None)
        left_out: list[str] = []
        if to is None:
            name, classes = found.model, found.num_classes
            pieces = [Piece(slot, weight) for slot, weight in found.found.values()]
            if found.is_transfer and num_classes is not None:
                classes = num_classes
            elif num_classes not in (None, classes):
                raise ModelError(f"{source}: holds {classes} classes, asked for {num_classes}")
        else:
            name, classes = to, MODELS[to].num_classes if num_classes is None else num_classes
            pieces, left_out = plan_transfer(file.layers, found, to, classes)
            if not pieces:
                raise CheckpointError(f"{source}: holds {found.model}, which has no layer in common with {to}")
        info, reasons = _describe(file, found, original, name, classes, preset, scales, class_names)
        channels = PRESETS[info.preset].channels
        tensors = _read_all(file, [_adapted(piece, original, channels) for piece in pieces], bar)
        raw_pixels = found.flavour == SSD_KERAS
        origin = f"{'ssd_keras, ' if raw_pixels else ''}{file.origin}"
        tensors, initial = complete(info, tensors)
        parameters = sum(t.numel() for key, t in tensors.items() if "running_" not in key)
        result = Conversion(
            info,
            source,
            output,
            parameters,
            *reasons,
            origin,
            raw_pixels,
            initial,
            left_out,
            original.assumed,
            original.variances,
        )
        if not dry_run:
            bar.set_description("writing")
            save_tensors(tensors, output, info)
            result.output_sha256 = sha256_of(output)
    result.seconds = time.perf_counter() - started
    return result


def _bar(source: Path, wanted: bool) -> tqdm:
    # disable=None: only where stderr is a terminal
    return tqdm(desc="reading", unit="B", unit_scale=True, disable=None if wanted else True, leave=False)


def check_arguments(source: Path, output: Path, to: str | None, preset: str | None, dry_run: bool) -> None:
    """Raises what a conversion would, before anything is read."""
    if output.resolve() == source.resolve():
        raise CheckpointError(f"{output}: the output would overwrite the source")
    if not dry_run:
        check_target(output)
    if to is not None and model_config(to).task != "detector":
        raise ModelError(f"{to}: a classifier, expected a detector to start")
    if preset is not None and preset not in PRESETS:
        raise ModelError(f"unknown preset {preset!r}: expected one of {', '.join(PRESETS)}")


def _check_settings(given: Settings) -> None:
    for name, value, count, positive in (
        ("mean", given.mean, 3, False),
        ("deviation", given.deviation, 3, True),
        ("variances", given.variances, 4, True),
        ("epsilon", given.epsilon, 1, True),
    ):
        if value is not None and numbers(value, count, positive) is None:
            raise ModelError(f"{name} is {value!r}, expected {count} finite numbers{' above 0' if positive else ''}")
    if given.swap is not None and sorted(given.swap) != [0, 1, 2]:
        raise ModelError(f"swap is {given.swap!r}, expected 0, 1 and 2 in some order")
    for name, word, known in (("steps", given.steps, ANCHOR_STEPS), ("clip", given.clip, ANCHOR_CLIPS)):
        if word is not None and word not in known:
            raise ModelError(f"{name} is {word!r}, expected one of {', '.join(known)}")


def _adapted(piece: Piece, original: Original, channels: str) -> Piece:
    """`piece` with what our network needs to answer as the original does."""
    path = piece.weight.path.strip("/").split("/")
    return piece._replace(adapt=original.change(piece.slot, path[-2] if len(path) > 1 else path[0], channels))


def _refuse(file: KerasFile, found: Match, original: Original, transfer: bool) -> None:
    """CheckpointError with everything that does not fit; a trunk without heads passes.

    transfer: only what fits will be taken: what is missing or unexpected is listed, not refused.
    """
    if not file.layers:
        raise CheckpointError(f"{file.path}: " + listed(["holds no weights", *file.problems]))
    names = set(file.layers) | set(file.layer_names)
    if {"classes4", "boxes4"} <= names:
        raise CheckpointError(f"{file.path}: an SSD7 of ssd_keras, which has no network here")
    problems = file.problems + input_problems(file.config, found.model) + original.problems
    if not found.fits and not transfer:
        problems += found.problems
    if not problems:
        return
    of_all = len(found.found) / (len(found.found) + len(found.missing) + 1)
    if of_all < 0.5 and len(found.problems) > 10:
        held = sorted(file.layers)
        raise CheckpointError(
            f"{file.path}: no network of jpeg_deep or ssd_keras; it holds {len(held)} layers with weights: "
            + "; ".join([listed(held, ", "), *([listed(file.problems)] if file.problems else [])])
        )
    raise CheckpointError(
        f"{file.path}: does not fit {found.model} with {found.num_classes} classes, the nearest network "
        f"({len(problems)} differences): " + listed(problems)
    )


def _problem(weight: Weight, kind: str, value: np.ndarray) -> str | None:
    """What makes the values unusable."""
    # The sum is infinite or NaN if any value is; only then is it worth a mask as large as the layer.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(value.sum(dtype=np.float64))
    if suspicious:
        return f"{shown(weight.path.lstrip('/'))}: {int((~np.isfinite(value)).sum())} of its values are not finite"
    if kind == "moving_variance" and value.min() < 0:
        return f"{shown(weight.path.lstrip('/'))}: a negative variance ({value.min():g})"
    return None


def _read_all(file: KerasFile, pieces: list[Piece], bar: tqdm) -> dict[str, Tensor]:
    """Our tensors by key; one layer at a time in both layouts.  CheckpointError lists all that are unusable."""
    problems: list[str] = []
    tensors = {}
    bar.total = sum(piece.weight.nbytes for piece in pieces)
    for slot, weight, change, adapt in pieces:
        try:
            value = file.read(weight)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        bar.update(weight.nbytes)
        problem = _problem(weight, slot.weight, value)
        if problem is not None:
            problems.append(problem)
            continue
        value = adapt(value).astype(np.float32, copy=False) if adapt else value
        tensor = torch.from_numpy(slot.to_torch(value))
        tensors[slot.key] = (change(tensor) if change else tensor).contiguous()
    if problems:
        raise CheckpointError(f"{file.path}: unusable weights ({len(problems)}): " + listed(problems))
    return tensors


def _describe(
    file: KerasFile,
    found: Match,
    original: Original,
    name: str,
    classes: int,
    preset: str | None,
    scales: str | tuple[float, ...] | None,
    class_names: tuple[str, ...] | None,
) -> tuple[WeightsInfo, tuple[str, str | None, str | None]]:
    """The metadata, and why preset, scales and class names are what they are."""
    detector = MODELS[name].task == "detector"
    scales_reason = None
    if not detector:
        if scales is not None:
            raise ModelError(f"{name}: a classifier has no anchor scales, got {scales!r}")
    elif scales is not None:
        scales_reason = "as asked for"
        scales = checked_scales(MODELS[name], scales)
    elif original.scales is not None:
        scales, scales_reason = _stated_scales(file, name, original.scales), "stated in the file's model_config"
    else:
        assumed = "coco" if classes == 80 else "voc"
        scales = MODELS[name].known_scales[assumed]
        scales_reason = f"{assumed.upper()}'s, assumed from {classes} classes: the file does not say"
        told = f"anchor scales {assumed.upper()}'s, by the number of classes"
        if classes not in (20, 80):
            told = (
                f"WARNING: {classes} classes are neither VOC's nor COCO's: if the anchors had other scales, all boxes "
                "are wrong"
            )
        original.assumed.append(Assumption(told, "scales"))
    if preset is not None:
        reason = "as asked for"
    elif found.flavour == SSD_KERAS:
        preset, reason = "ssd_keras", "the layer names are ssd_keras's"
    elif found.flavour == BUBBLIIIING:
        preset, reason = "voc", "the layers are those of bubbliiiing/ssd-keras"
    elif not detector:
        preset, reason = "imagenet", "a classifier"
    elif scales == MODELS[name].known_scales["coco"]:
        preset, reason = "coco", "COCO's anchor scales"
    else:
        preset, reason = (
            "voc",
            "VOC's anchor scales" if scales == MODELS[name].known_scales["voc"] else "no other preset fits better",
        )
    names_reason = None
    if class_names is not None:
        if len(class_names) != classes:
            raise ModelError(f"{name}: {len(class_names)} class names for {classes} classes")
        names_reason = "as asked for"
    elif detector:
        known = next((key for key, names in KNOWN_CLASSES.items() if len(names) == classes), None)
        if known is not None:
            class_names = KNOWN_CLASSES[known]
            names_reason = f"{known.upper()}'s, assumed from their number"
            original.assumed.append(Assumption(f"class names {known.upper()}'s, by their number", "class_names"))
    mean = None
    rgb = MODELS[name].inputs == "rgb"
    if rgb and original.mean_rgb is not None and (reason != "as asked for" or original.mean_rgb != SSD_KERAS_MEAN):
        mean = original.mean_rgb[::-1] if PRESETS[preset].channels == "bgr" else original.mean_rgb
        mean = None if mean == PRESETS[preset].mean else mean
    info = WeightsInfo(
        name, classes, scales, preset, class_names, found.width, shown(file.path.name), sha256_of(file.path),
        mean=mean, box_rules=original.box_rules,
    )  # fmt: skip
    return info, (reason, scales_reason, names_reason)


def _stated_scales(file: KerasFile, name: str, scales: tuple[float, ...]) -> tuple[float, ...] | None:
    if len(scales) != len(MODELS[name].feature_maps) + 1:  # of another network, which `to` starts this one from
        return MODELS[name].anchor_scales
    try:
        return checked_scales(MODELS[name], scales)
    except ModelError as error:
        raise CheckpointError(f"{file.path}: {error}") from None


def _refuse_giants(info: WeightsInfo, tensors: dict[str, Tensor]) -> None:
    """CheckpointError where a damaged width would make far more fresh values than the file gives."""
    with torch.device("meta"):
        model = create_model(info.model, info.num_classes, width=info.width)
    whole, given = sum(p.numel() for p in model.parameters()), sum(t.numel() for t in tensors.values())
    if whole > _MOST_FRESH and given < whole / 100:
        raise CheckpointError(
            f"{info.source_file}: its layers speak of {info.width:g} times the width of {info.model}: {whole:,} "
            f"weights, of which it holds {given:,}"
        )


def complete(info: WeightsInfo, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Adds seeded initial values for what the file does not give: (all tensors, keys added)."""
    with torch.device("meta"):
        state = create_model(info.model, info.num_classes, width=info.width).state_dict()
    wanted = [key for key in state if not key.endswith("num_batches_tracked")]
    initial = [key for key in wanted if key not in tensors]
    if initial:
        _refuse_giants(info, tensors)
        fresh = create_model(
            info.model, info.num_classes, info.anchor_scales, width=info.width, seed=_INITIAL_SEED
        ).state_dict()
        tensors = tensors | {key: fresh[key].contiguous() for key in initial}
    return {key: tensors[key] for key in wanted}, initial
