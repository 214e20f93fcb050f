"""What a DCT detector's detections lose where nothing is decoded: 'native' against 'reencode' on the same files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torchvision.ops import box_iou

from jpegdeep_torch.data.reading import Source
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.inference.detector import Detector
from jpegdeep_torch.presets import get_preset

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


def coefficient_difference(
    model: nn.Module,
    preset: str,
    sources: Sequence[Source],
    *,
    score: float = 0.01,
    batch_size: int = 8,
    on_image: Callable[[], object] = lambda: None,
) -> Difference:
    """Runs the detector on `sources` with both kinds of coefficients.

    Args:
        score: detections count whose score is at least this.
        on_image: called once per image.

    Raises:
        ModelError: the network is no detector, or takes pixels.
        JpegError: a source cannot be read.
    """
    if not model.config.is_dct or model.config.task != "detector":
        raise ModelError(f"{model.config.name}: expected a detector on DCT coefficients")
    native, reencode = (
        Detector(model, get_preset(preset, name), batch_size=batch_size, workers=0) for name in ("native", "reencode")
    )
    equal = count = detections = 0
    scores, boxes = [], []
    for batches in zip(native.read(sources), reencode.read(sources)):
        for _, error in (error for batch in batches for error in batch.errors):
            raise error
        for a, b in zip(*(batch.inputs for batch in batches)):
            equal, count = equal + int((a == b).sum()), count + a.numel()
        values = [
            detector.postprocess(detector.forward(detector.prepare(batch)), batch.image_sizes)
            for detector, batch in zip((native, reencode), batches)
        ]
        for got, expected in zip(*values):
            detections += int((expected["scores"] >= score).sum())
            for score_difference, box_difference in _matched(got, expected, score):
                scores.append(score_difference)
                boxes.append(box_difference)
            on_image()
    return Difference(len(sources), equal / count, detections, scores, boxes)


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
