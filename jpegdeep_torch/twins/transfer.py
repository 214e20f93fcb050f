"""From a trained RGB network of the table to one of its DCT networks: equal layers are taken, the others learn."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from ..errors import ModelError
from ..inference.detector import Detector
from ..models import Network, create_model
from ..presets import Preset
from ..weights import WeightsInfo, save_weights
from .learning import LEAST_VARIANCE, Opening, TwinConfig, normalised_error, teach
from .lessons import Prepare
from .make import preparation, saved_beside
from .pairs import Pairs, middle_pairs
from .pictures import Display, Folders, split_pictures

_RENAMED = {"block5_conv1_dct": "block5_conv1"}  # layers that take the chroma's channels as well as the teacher's
# Whatever leads to the maps.
_BEFORE_SOURCE = (".stem.", ".early.", ".luma.", ".chroma.", "luma_norm.", "chroma_norm.", ".deconv.")
_SHOWN_SCORE = 0.3  # of a teacher's detections that the twin's are compared with
_BATCH = 4


def taken_layers(student: Network, teacher: Network) -> list[str]:
    """Copies into `student` whatever of the teacher's fits -> names of the tensors that are the teacher's as a whole.

    A layer that takes the chroma besides has the teacher's weights for the channels that both have, and zeros for the
    chroma's, so that it begins as the teacher's.
    """
    own, held, taken = student.state_dict(), teacher.state_dict(), []
    for key, value in own.items():
        source = key
        for ours, theirs in _RENAMED.items():
            source = source.replace(ours, theirs)
        if source not in held:
            continue
        if held[source].shape == value.shape:
            value.copy_(held[source])
            taken += [key] if source == key else []
        elif value.ndim == 4 and value.shape[0] == held[source].shape[0] and value.shape[1] > held[source].shape[1]:
            value.zero_()
            value[:, : held[source].shape[1]] = held[source]
    return taken


class NetworkLesson:
    """A DCT network learns the maps of stride 8 and 16 of its RGB twin; its layers after them are the teacher's."""

    def __init__(self, student: Network, teacher: Network, prepare: Prepare):
        self.network, self.prepare = student.eval(), prepare
        self.teacher = teacher.eval().requires_grad_(False)
        taken = set(taken_layers(student, teacher))
        self.kept = sorted(key for key in taken if not any(part in key for part in _BEFORE_SOURCE))
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(name not in self.kept)
        with torch.no_grad():
            shapes = [
                [m.shape[1:] for m in maps]
                for maps in (self._teacher_trunk(torch.zeros(1, 3, 64, 64)), self._student_trunk(_empty_pairs()))
            ]
        self.places = [i for i, (ours, theirs) in enumerate(zip(*shapes)) if ours == theirs]
        if not self.kept or not self.places:
            raise ModelError(
                f"{student.config.name}: has no layers or no feature map in common with {teacher.config.name}"
            )

    @property
    def student(self) -> nn.Module:
        """The DCT network."""
        return self.network

    def begin(self, opening: Opening) -> None:
        """Nothing: what is not the teacher's starts fresh."""

    def teacher_maps(self, pixels: Tensor, final: bool) -> list[Tensor]:
        maps = self._teacher_trunk(self.prepare(pixels))
        return [maps[i] for i in self.places]

    def student_maps(self, pairs: Pairs, final: bool) -> list[Tensor]:
        maps = self._student_trunk(pairs)
        return [maps[i] for i in self.places]

    def _teacher_trunk(self, image: Tensor) -> Sequence[Tensor]:
        return self.teacher.trunk(image)  # type: ignore[operator]

    def _student_trunk(self, pairs: Pairs) -> Sequence[Tensor]:
        return self.network.trunk(*student_inputs(self.network, pairs))  # type: ignore[operator]


def student_inputs(student: Network, pairs: Pairs) -> tuple[Tensor, ...]:
    """What a DCT network takes of a batch."""
    both = {
        "dct": (pairs.luma, pairs.chroma),
        "dct_y": (pairs.luma,),
        "dct_split": (pairs.luma, pairs.chroma[:, :64], pairs.chroma[:, 64:]),
    }
    return both[student.config.inputs]


def _empty_pairs() -> Pairs:
    return Pairs(torch.zeros(1, 64, 8, 8), torch.zeros(1, 128, 4, 4), torch.empty(0))


@dataclass
class TransferProof:
    """On held-out pictures.

    explained: of each map's variance.
    found: the share of the teacher's detections, those of a score of at least 0.3, that the twin finds again (same
        class, IoU 0.5); a classifier's: the share of pictures of the same class.  None where the teacher finds nothing.
    """

    images: int
    explained: list[float]
    found: float | None


@dataclass
class TransferResult:
    """network: in eval mode.  taken: names of the tensors that are the teacher's.  output: the file, if asked for."""

    network: Network
    taken: list[str]
    proof: TransferProof
    held_out: list[Path] = field(default_factory=list)
    output: Path | None = None


def transfer(
    teacher: Network,
    to: str,
    images: Folders,
    output: str | os.PathLike[str] | None = None,
    *,
    prepare: Prepare | Preset | None = None,
    config: TwinConfig | None = None,
    state_file: str | os.PathLike[str] | None = None,
    save_steps: int = 200,
    display: Display | None = None,
) -> TransferResult:
    """Teaches a DCT network of the table what an RGB one does, from JPEGs without labels.

    Layers that both have are taken; of them, those after the feature maps of stride 8 and 16 stay as they are.  All
    others learn to give the same maps.

    Args:
        teacher: a trained RGB network of `create_model`.
        to: the DCT network, of the same family and task.
        output: the safetensors file to write.
        images, prepare, config, state_file, save_steps, display: see `make_twin`.

    Raises:
        ModelError: the two have too little in common.
        DatasetError, CheckpointError, TrainingError: see `make_twin`.
    """
    config, display = config or TwinConfig(learning_rate=1e-3), display or Display()
    saved = saved_beside(output, state_file)
    own = teacher.config
    scales = own.anchor_scales if own.task == "detector" else None
    student = create_model(to, own.num_classes, scales, width=own.width, seed=config.seed)
    theirs = student.config
    same = (own.family, own.task) == (theirs.family, theirs.task) and hasattr(teacher, "trunk")
    if own.is_dct or not theirs.is_dct or not same:
        raise ModelError(
            f"from {own.name} to {to}: expected an RGB network of the VGG or ResNet family, and a DCT network of the "
            "same family and task"
        )
    student.config = dataclasses.replace(theirs, box_rules=own.box_rules)
    files, held_out = split_pictures(images, display)
    lesson = NetworkLesson(student, teacher, preparation(teacher, prepare))
    display.say(
        f"{own.name} to {to}: {len(lesson.kept)} tensors are the teacher's; "
        f"the others learn from {len(files):,} pictures, {len(held_out)} are held out"
    )
    teach(lesson, files, config, saved, save_steps=save_steps, on_progress=display.step)
    if output is not None:
        about: WeightsInfo | None = getattr(teacher, "info", None)
        names, preset = (None, None) if about is None else (about.class_names, about.preset)
        save_weights(student, output, preset, names, coefficients="native")
    proof = _prove(lesson, held_out, display.proved)
    if output is not None and saved is not None:
        saved.unlink(missing_ok=True)
    return TransferResult(student, lesson.kept, proof, held_out, None if output is None else Path(output))


def _prove(lesson: NetworkLesson, files: Sequence[Path], on_images: Callable[[int], object]) -> TransferProof:
    student, teacher = lesson.network.eval(), lesson.teacher
    wanted: list[list[Tensor]] = []
    given: list[list[Tensor]] = []
    agreed: list[tuple[int, int]] = []
    for begin in range(0, len(files), _BATCH):
        pairs = middle_pairs(files[begin : begin + _BATCH], student.config.image_size)
        with torch.no_grad():
            wanted.append(lesson.teacher_maps(pairs.pixels, False))
            given.append(lesson.student_maps(pairs, False))
            outputs = teacher(lesson.prepare(pairs.pixels)), student(*student_inputs(student, pairs))
        agreed.append(_agreed(student, *outputs))
        on_images(len(pairs.luma))
    explained = []
    for theirs, ours in zip(zip(*wanted), zip(*given)):
        all_theirs, all_ours = torch.cat(theirs), torch.cat(ours)
        variance = all_theirs.var(dim=(0, 2, 3))
        variance = variance.clamp(min=max(LEAST_VARIANCE * float(variance.mean()), 1e-30))
        explained.append(1 - float(normalised_error(all_ours, all_theirs, variance)))
    again, total = (sum(numbers) for numbers in zip(*agreed))
    return TransferProof(len(files), explained, again / total if total else None)


def _agreed(network: nn.Module, theirs: object, ours: object) -> tuple[int, int]:
    """(how many of the teacher's answers are the twin's too, how many there are)."""
    if isinstance(theirs, Tensor) and isinstance(ours, Tensor):
        return int((theirs.argmax(1) == ours.argmax(1)).sum()), len(theirs)
    assert isinstance(network, Network) and isinstance(theirs, tuple) and isinstance(ours, tuple)
    sizes = torch.full((len(theirs[0]), 2), network.config.image_size)
    postprocess = Detector(network, threshold=_SHOWN_SCORE, workers=0).postprocess
    again = total = 0
    for wanted, found in zip(postprocess(theirs, sizes), postprocess(ours, sizes)):
        total += len(wanted["labels"])
        if len(found["labels"]) and len(wanted["labels"]):
            same = wanted["labels"][:, None] == found["labels"][None]
            again += int(((box_iou(wanted["boxes"], found["boxes"]) >= 0.5) & same).any(dim=1).sum())
    return again, total
