"""What a DCT detector's answers lose where nothing is decoded: 'native' held against 'reencode' on the same files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torchvision.ops import box_iou

from jpegdeep_torch.data import Batch, JpegDataset
from jpegdeep_torch.data.reading import Source
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.inference.detector import Detector
from jpegdeep_torch.presets import get_preset

WAYS = ("native", "reencode")
FOUND_IOU = 0.5


@dataclass(frozen=True)
class Difference:
    """Over all files.  The lists hold one value per detection of 'reencode' that 'native' finds again."""

    images: int
    equal: float  # share of the network's input coefficients that are equal
    detections: int  # of 'reencode'
    score_differences: list[float]
    box_differences_px: list[float]  # the largest of the four coordinates, in pixels of the original image

    @property
    def found(self) -> float:
        """Share of the detections of 'reencode' for which 'native' has one of the class with IoU >= 0.5."""
        return len(self.score_differences) / max(1, self.detections)

    def summary(self) -> dict[str, Any]:
        """The figures, without the differences of single detections."""
        return {
            "images": self.images, "equal": self.equal, "detections": self.detections, "found": self.found,
            "score_difference": _spread(self.score_differences),
            "box_difference_px": _spread(self.box_differences_px),
        }  # fmt: skip


def dct_difference(
    model: nn.Module,
    preset: str,
    sources: Sequence[Source],
    *,
    score: float = 0.01,
    batch_size: int = 8,
    on_image: Callable[[], object] | None = None,
) -> Difference:
    """Runs both ways over `sources`; detections of at least `score` count.  ModelError for a network on pixels.

    `on_image` is called once an image.
    """
    if not model.config.is_dct or model.config.task != "detector":
        raise ModelError(f"{model.config.name}: expected a detector on DCT coefficients")
    ways = {way: Detector(model, get_preset(preset, way), batch_size=batch_size, workers=0) for way in WAYS}
    readers = {way: JpegDataset(sources, model.config, get_preset(preset, way)) for way in WAYS}
    equal, count, detections = 0, 0, 0
    scores, boxes = [], []
    for start in range(0, len(sources), batch_size):
        indices = range(start, min(start + batch_size, len(sources)))
        batches = {way: reader.__getitems__(indices) for way, reader in readers.items()}
        for batch in batches.values():
            for _, error in batch.errors:
                raise error
        for a, b in zip(*(batch.inputs for batch in batches.values())):
            equal, count = equal + int((a == b).sum()), count + a.numel()
        answers = [_answers(ways[way], batch) for way, batch in batches.items()]
        for got, expected in zip(*answers):
            detections += int((expected["scores"] >= score).sum())
            for score_difference, box_difference in _matched(got, expected, score):
                scores.append(score_difference)
                boxes.append(box_difference)
            if on_image is not None:
                on_image()
    return Difference(len(sources), equal / count, detections, scores, boxes)


def _answers(detector: Detector, batch: Batch) -> list[dict[str, Tensor]]:
    return detector.postprocess(detector.forward(detector.prepare(batch)), batch.image_sizes)


def _matched(got: dict[str, Tensor], expected: dict[str, Tensor], score: float) -> list[tuple[float, float]]:
    """(score difference, box difference) for each expected detection that was found again."""
    wanted = expected["scores"] >= score
    boxes, labels, scores = (expected[key][wanted] for key in ("boxes", "labels", "scores"))
    if not len(boxes) or not len(got["boxes"]):
        return []
    overlap = box_iou(boxes, got["boxes"]) * (labels[:, None] == got["labels"])
    best, at = overlap.max(dim=1)
    found = best >= FOUND_IOU
    score_difference = (scores - got["scores"][at]).abs()[found]
    box_difference = (boxes - got["boxes"][at]).abs().amax(dim=1)[found]
    return list(zip(score_difference.tolist(), box_difference.tolist()))


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    figures = np.percentile(values, (50, 95, 100)).tolist() if len(values) else [None] * 3
    return dict(zip(("median", "p95", "largest"), figures))


def table(difference: Difference) -> str:
    """As Markdown."""
    d, summary = difference, difference.summary()
    lines = [
        f"| {d.images} images, {d.detections} detections | median | 95% below | largest |",
        "| --- | --- | --- | --- |",
    ]
    for title, name, unit in (("score", "score_difference", ""), ("box", "box_difference_px", " px")):
        figures = ["none" if value is None else f"{value:.3g}{unit}" for value in summary[name].values()]
        lines.append(f"| {title} differs by | {' | '.join(figures)} |")
    lines += [
        "",
        f"Equal input coefficients: {d.equal:.2%}.  Detections found again (class, IoU >= 0.5): {d.found:.2%}.",
    ]
    return "\n".join(lines)
