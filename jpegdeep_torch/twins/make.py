"""From a trained RGB network and pictures without labels to its twin on coefficients, proof included."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..models import Network, initialise
from ..models.stem_file import StemInfo, put_on_stem, rows_with_stem, save_stem
from ..models.stems import DCTStem
from ..presets import Preset, prepare_image
from ..utils.files import check_target
from ..weights import WeightsInfo, save_weights
from .cutting import cut_network
from .learning import TwinConfig, teach
from .lessons import Prepare, StemLesson
from .pictures import Display, Folders, split_pictures
from .proof import Proof, prove

IMAGENET_MEAN, IMAGENET_DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # torchvision's, red first


class Twin(nn.Module):
    """Luma (N, 64, H/8, W/8) and chroma (N, 128, H/16, W/16), floating point -> what the teacher gives.

    `late` holds the teacher's own modules, as they were.
    """

    def __init__(self, stem: DCTStem, late: nn.Module):
        super().__init__()
        self.stem, self.late = stem, late

    def forward(self, luma: Tensor, chroma: Tensor) -> object:
        return self.late(self.stem(luma, chroma))[1]


@dataclass
class TwinResult:
    """twin: in eval mode.  output: the file that was written, where one was asked for."""

    twin: Twin
    info: StemInfo
    proof: Proof
    held_out: list[Path] = field(default_factory=list)
    output: Path | None = None


def normalised(mean: Sequence[float] = IMAGENET_MEAN, deviation: Sequence[float] = IMAGENET_DEVIATION) -> Prepare:
    """RGB of 0..255 -> (RGB - mean) / deviation, both of 255 and red first; torchvision's where not given."""
    centre, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, deviation))
    return lambda pixels: (pixels - centre) / scale


def make_twin(
    teacher: nn.Module,
    images: Folders,
    output: str | os.PathLike[str] | None = None,
    *,
    layer: str | None = None,
    deeper: str | None = None,
    stem: str = "small",
    prepare: Prepare | Preset | None = None,
    name: str | None = None,
    size: int = 224,
    config: TwinConfig | None = None,
    state_file: str | os.PathLike[str] | None = None,
    save_steps: int = 200,
    display: Display | None = None,
) -> TwinResult:
    """Teaches a stem to give what a teacher's layers up to `layer` give, from JPEGs without labels.

    All later layers are the teacher's own, as they are.  A run that was killed goes on where it was last saved, when it
    is called again with the same arguments.

    Args:
        teacher: image (N, 3, H, W) -> anything, trained: a network of `create_model`, or any that torch.fx can trace.
        images: folders of JPEGs, or one.  Folders in them are not looked into.
        output: the safetensors file to write: the whole twin, for `load_model`, where the table has it as a network, as
            of mobilenet_v2; else the stem, for `load_stem`.
        layer: whose output the stem gives, of stride 4, 8 or 16; may be left out where `DEFAULT_LAYERS` has one.
        deeper: a later layer, whose output is learnt from too; by default the last one of stride 16 beside `layer`.
        stem: a key of `models.stems.STEMS`.
        prepare: what the teacher's pixels go through: a Preset, or a function of RGB (N, 3, H, W) of 0..255; by default
            the preset of the network's own weights file, else torchvision's ImageNet normalisation.
        name: of the teacher, for the file.
        size: of the pictures that the twin is proved on, in pixels.
        config: how it learns.
        state_file: where the run is saved every `save_steps` steps, to be gone on with; by default beside `output`, and
            removed at the end.
        display: where it tells how it gets on.

    Raises:
        DatasetError: a folder without JPEGs, or with too few that can be read.
        ModelError: the teacher cannot be cut there.
        CheckpointError: `output` cannot be written.
        TrainingError: the saved state is of another run.
    """
    config, display = config or TwinConfig(), display or Display()
    saved = saved_beside(output, state_file)
    layer = layer or DEFAULT_LAYERS.get(teacher.config.family if isinstance(teacher, Network) else "")
    if layer is None:
        raise ModelError(f"{type(teacher).__name__}: no layer to cut at was named")
    cut = cut_network(teacher, layer, deeper=deeper, size=size)
    files, held_out = split_pictures(images, display)
    width = teacher.config.width if isinstance(teacher, Network) else 1.0
    info = StemInfo(stem, name or teacher_name(teacher), layer, cut.channels, cut.stride, cut.rectified, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        student = info.build().apply(initialise).to(memory_format=torch.channels_last)
    lesson = StemLesson(student, cut, preparation(teacher, prepare))
    display.say(
        f"{info.teacher}, cut at {layer} ({cut.channels} channels, stride {cut.stride}; deeper: {cut.deeper}): "
        f"a {stem} stem learns from {len(files):,} pictures, {len(held_out)} are held out"
    )
    teach(lesson, files, config, saved, save_steps=save_steps, on_progress=display.step)
    student = lesson.scaled.folded()
    if output is not None:
        _save(teacher, student, info, output)
    proof = prove(cut, student, lesson.prepare, held_out, size, on_images=display.proved)
    if output is not None and saved is not None:
        saved.unlink(missing_ok=True)
    return TwinResult(Twin(student, cut.late), info, proof, held_out, None if output is None else Path(output))


DEFAULT_LAYERS = {"mobilenet_v2": "features.6"}  # by a network's family


def saved_beside(output: str | os.PathLike[str] | None, state_file: str | os.PathLike[str] | None) -> Path | None:
    """Where a run is saved; CheckpointError where its `output` could not be written."""
    if output is not None:
        check_target(output)
    if state_file is None and output is not None:
        state_file = f"{output}.state"
    return None if state_file is None else Path(state_file)


def _save(teacher: nn.Module, stem: DCTStem, info: StemInfo, output: str | os.PathLike[str]) -> None:
    """A weights file of the table's network that the two make together; of a stem alone where there is none."""
    rows = rows_with_stem(teacher, info.stem) if isinstance(teacher, Network) else []
    if not rows or not isinstance(teacher, Network):
        save_stem(stem, info, output)
        return
    about: WeightsInfo | None = getattr(teacher, "info", None)
    names, preset = (None, None) if about is None else (about.class_names, about.preset)
    save_weights(put_on_stem(teacher, stem, rows[0]), output, preset, names, coefficients="native")


def teacher_name(teacher: nn.Module) -> str:
    return teacher.config.name if isinstance(teacher, Network) else type(teacher).__name__


def preparation(teacher: nn.Module, prepare: Prepare | Preset | None) -> Prepare:
    about = getattr(teacher, "info", None)
    if prepare is None and isinstance(about, WeightsInfo):
        prepare = about.preparation()
    if isinstance(prepare, Preset):
        preset = prepare
        return lambda pixels: prepare_image(pixels, preset)
    return prepare or normalised()
