"""How near a twin comes to its teacher, on pictures that it has not learnt from, and how fast each is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .cutting import Cut
from .learning import LEAST_VARIANCE, normalised_error
from .lessons import Prepare
from .pairs import Pairs, middle_pairs

QUALITIES = (None, 95, 75, 50)  # of the held-out pictures: as they are, or rounded to the tables of that quality
_BATCH = 8
_ROUNDS = 7


@dataclass
class Agreement:
    """Of a twin and its teacher, on pictures of one quality.

    quality: the tables' that the pictures were rounded to; None: as they are.
    explained: share of the variance of the teacher's feature map that the twin's explains.
    top1: share of the pictures of which both say the same class; None where the output is no (N, classes).
    """

    quality: int | None
    images: int
    explained: float
    top1: float | None


@dataclass
class Proof:
    """agreements: one of each quality.  teacher_ms, twin_ms: of the networks alone, milliseconds per image, medians of
    rounds in turns, with as many threads as PyTorch has.  answers: (picture, teacher's class, twin's), as they are."""

    agreements: list[Agreement]
    teacher_ms: float
    twin_ms: float
    answers: list[tuple[Path, int, int]]


def prove(
    cut: Cut,
    stem: nn.Module,
    prepare: Prepare,
    files: Sequence[Path],
    size: int = 224,
    *,
    qualities: Sequence[int | None] = QUALITIES,
    on_images: Callable[[int], object] = lambda images: None,
) -> Proof:
    """Compares the two on the middles of held-out pictures, at `size` px.

    Raises:
        JpegError: a file that cannot be read.
    """
    stem.eval()
    agreements, answers = [], []
    for quality in qualities:
        found, wanted, given = [], [], []
        for begin in range(0, len(files), _BATCH):
            some = files[begin : begin + _BATCH]
            with torch.no_grad():
                pairs = middle_pairs(some, size, quality)
                theirs, ours = cut.early(prepare(pairs.pixels)), stem(pairs.luma, pairs.chroma)
                wanted.append(theirs)
                given.append(ours)
                classes = [_classes(cut.late(features)[1]) for features in (theirs, ours)]
            if classes[0] is not None and classes[1] is not None:
                found += list(zip(some, classes[0].tolist(), classes[1].tolist()))
            on_images(len(some))
        if quality is None:
            answers = found
        theirs, ours = torch.cat(wanted), torch.cat(given)
        variance = theirs.var(dim=(0, 2, 3))
        variance = variance.clamp(min=max(LEAST_VARIANCE * float(variance.mean()), 1e-30))
        top1 = sum(a == b for _, a, b in found) / len(found) if found else None
        agreements.append(Agreement(quality, len(files), 1 - float(normalised_error(ours, theirs, variance)), top1))
    teacher_ms, twin_ms = _speeds(cut, stem, prepare, middle_pairs(files[:_BATCH], size))
    return Proof(agreements, teacher_ms, twin_ms, answers)


def _classes(output: object) -> Tensor | None:
    return output.argmax(dim=1) if isinstance(output, Tensor) and output.ndim == 2 else None


def _speeds(cut: Cut, stem: nn.Module, prepare: Prepare, pairs: Pairs) -> tuple[float, float]:
    """(teacher's, twin's) milliseconds per image, of the networks alone: in turns, so that both meet the same load."""
    pixels = prepare(pairs.pixels)
    ways = (lambda: cut.late(cut.early(pixels)), lambda: cut.late(stem(pairs.luma, pairs.chroma)))
    taken: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for _ in range(_ROUNDS):
            for way, times in zip(ways, taken):
                started = time.perf_counter()
                way()
                times.append((time.perf_counter() - started) * 1e3 / len(pixels))
    return statistics.median(taken[0][1:]), statistics.median(taken[1][1:])
