"""A stem learns to give what a teacher's early layers give: the loop, which can be killed and gone on with."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TrainingError
from ..utils.files import written_whole
from .pairs import Augmentation, Pairs, training_pairs

_OPENING_BATCHES = 40  # that the student begins from, and that the channels' variances are taken from
_KEPT = 24  # batches to learn from, where each is learnt from several times
LEAST_VARIANCE = 1e-3  # of a channel, as a share of all channels' mean: one that is always zero has none


@dataclass(frozen=True)
class TwinConfig:
    """How a stem is taught.

    size: of the parts of pictures, in pixels.
    learning_rate: the highest, of one cycle: up over the first tenth of the steps, then down along a cosine.
    deeper_weight: of the error of deeper features against that of the feature map itself.
    final_weight: of the divergence of a classifier's probabilities, over the last `final_share` of the steps.
    reuse: how many steps learn from a batch, on average, once it is read and the teacher has answered: each step draws
        one of those that are kept.
    """

    steps: int = 6000
    batch_size: int = 16
    size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    deeper_weight: float = 1.0
    final_weight: float = 0.1
    final_share: float = 0.15
    reuse: int = 3
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        warm = max(1, self.steps // 10)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))

    def batch_at(self, step: int) -> int:
        """The number of the batch that a step learns from: one of those that are kept, drawn by the seed."""
        if self.reuse == 1:
            return step
        return step // self.reuse + int(np.random.default_rng((self.seed, step, 1)).integers(0, _KEPT))

    def final_weight_at(self, step: int) -> float:
        return self.final_weight if step >= self.steps * (1 - self.final_share) else 0.0


Opening = list[tuple[Pairs, list[Tensor]]]  # batches, without their pixels, and the teacher's maps of each


class Lesson(Protocol):
    """A student and its teacher, as the loop sees them."""

    @property
    def student(self) -> nn.Module:
        """All that learns, and all that is stored to go on from."""

    def begin(self, opening: Opening) -> None:
        """Brings the student to where it starts from."""

    def teacher_maps(self, pixels: Tensor, final: bool) -> list[Tensor]:
        """The maps (N, C, H, W) to be learnt; with `final`, logits (N, classes) at the end where there are some."""

    def student_maps(self, pairs: Pairs, final: bool) -> list[Tensor]:
        """The student's, of the same shapes."""


@dataclass
class Progress:
    """One line of a run's log.  explained: of each map's variance, 1 at best."""

    step: int
    steps: int
    loss: float
    explained: list[float]
    divergence: float | None
    learning_rate: float
    seconds_per_step: float


def teach(
    lesson: Lesson,
    files: Sequence[Path],
    config: TwinConfig,
    state_file: Path | None,
    *,
    save_steps: int = 200,
    log_steps: int = 50,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Teaches `lesson.student` in place.

    What a step draws hangs on the seed and the step alone, so a run that was killed goes on from `state_file` as if
    nothing had been: on the same machine, with as many threads, the student is bitwise the same.

    Raises:
        JpegError: a file that cannot be read.
        TrainingError: the state is of another run, or the loss is no longer a number.
    """
    student = _to_training(lesson.student)
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    identity = {"config": dataclasses.asdict(config), "files": [file.name for file in files]}
    state = None if state_file is None else _load_state(state_file, identity)
    begin = 0
    if state is not None:
        begin = state["step"]
        student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        variances = state["variances"]
    else:
        opening = _opening(lesson, files, config)
        variances = _channel_variances([maps for _, maps in opening])
        lesson.begin(opening)
        del opening
    started, sums, counted = time.perf_counter(), np.zeros(len(variances) + 2), 0
    for step, (pairs, wanted) in zip(range(begin, config.steps), _lessons(lesson, files, config, begin)):
        rate, final = config.rate_at(step), config.final_weight_at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        given = lesson.student_maps(pairs, final > 0)
        errors = [normalised_error(g, w, v) for g, w, v in zip(given, wanted, variances)]
        loss = errors[0] + config.deeper_weight * sum(errors[1:], torch.zeros(()))
        divergence = torch.zeros(())
        if final > 0 and len(given) > len(variances):  # `zip` has left the logits out above
            ours, theirs = (logits[-1].log_softmax(1) for logits in (given, wanted))
            divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
            loss = loss + final * divergence
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        sums += [float(loss.detach()), *(float(e.detach()) for e in errors), float(divergence.detach())]
        counted += 1
        if not math.isfinite(sums[0]):
            raise TrainingError(f"step {step}: the loss is {float(loss.detach())}; try a smaller learning rate")
        done = step + 1
        if done % log_steps == 0 or done == config.steps:
            means, now = sums / counted, time.perf_counter()
            on_progress(Progress(
                done, config.steps, means[0], [1 - e for e in means[1:-1]], means[-1] if final > 0 else None, rate,
                (now - started) / counted,
            ))  # fmt: skip
            started, sums, counted = now, np.zeros_like(sums), 0
        if state_file is not None and (done % save_steps == 0 or done == config.steps):
            with written_whole(state_file) as temporary:
                torch.save(
                    {"step": done, "student": student.state_dict(), "optimizer": optimizer.state_dict(),
                     "variances": variances, "identity": identity},
                    temporary,
                )  # fmt: skip
    student.eval()


def _to_training(student: nn.Module) -> nn.Module:
    """In training mode, but for normalisations that do not learn."""
    student.train()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()
    return student


def normalised_error(given: Tensor, wanted: Tensor, variance: Tensor) -> Tensor:
    """Mean over channels of (mean squared error / the channel's variance): 1 minus the share that is explained."""
    return ((given - wanted).square().mean(dim=(0, 2, 3)) / variance).mean()


def _lessons(
    lesson: Lesson, files: Sequence[Path], config: TwinConfig, begin: int
) -> Iterator[tuple[Pairs, list[Tensor]]]:
    """The batch of each step from `begin` on, with the teacher's maps; the next batch is read meanwhile."""
    kept: dict[int, tuple[Pairs, list[Tensor]]] = {}
    with ThreadPoolExecutor(1) as pool:
        coming: dict[int, Future[Pairs]] = {}
        for step in range(begin, config.steps):
            needed, following = config.batch_at(step), config.batch_at(step + 1)
            for number in (needed, following):
                if number not in kept and number not in coming:
                    coming[number] = pool.submit(_draw, files, config, number)
            if needed not in kept:
                kept[needed] = _answered(lesson, coming.pop(needed).result(), final=config.final_weight > 0)
            yield kept[needed]
            for number in [n for n in kept if n < (step + 1) // config.reuse]:
                del kept[number]


def _answered(lesson: Lesson, pairs: Pairs, final: bool) -> tuple[Pairs, list[Tensor]]:
    """The batch without its pixels, and the teacher's maps."""
    with torch.no_grad():
        maps = lesson.teacher_maps(pairs.pixels, final)
    return dataclasses.replace(pairs, pixels=torch.empty(0)), maps


def _draw(files: Sequence[Path], config: TwinConfig, number: int) -> Pairs:
    """A batch by its number: whatever is drawn hangs on the seed and that alone."""
    rng = np.random.default_rng((config.seed, number))
    chosen = rng.choice(len(files), config.batch_size, replace=len(files) < config.batch_size)
    return training_pairs([files[i] for i in chosen], config.size, config.augmentation, rng)


def _opening(lesson: Lesson, files: Sequence[Path], config: TwinConfig) -> Opening:
    """The first batches."""
    return [_answered(lesson, _draw(files, config, number), final=False) for number in range(_OPENING_BATCHES)]


def _channel_variances(batches: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Of each of the teacher's maps, (C,), over these batches."""
    found = []
    for maps in zip(*batches):
        moments = torch.stack([torch.stack((m.mean((0, 2, 3)), m.square().mean((0, 2, 3)))) for m in maps]).mean(dim=0)
        variance = moments[1] - moments[0].square()
        found.append(variance.clamp(min=max(LEAST_VARIANCE * float(variance.mean()), 1e-30)))
    return found


def _load_state(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """What was saved to go on from; None where there is nothing.  TrainingError: of another run, or damaged."""
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        held = state["identity"]
    except Exception as error:  # a damaged file makes the reader stumble over anything
        raise TrainingError(f"{path}: cannot be read ({type(error).__name__}), expected the state of a run") from None
    if held != identity:
        differing = [key for key, value in identity["config"].items() if held["config"].get(key) != value]
        what = f"other settings ({', '.join(differing)})" if differing else "other pictures"
        raise TrainingError(f"{path}: is the state of a run with {what}; remove it to begin anew")
    return state
