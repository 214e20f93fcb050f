"""Detections of many files as JSON Lines and as images with the boxes drawn in, resumable."""

from __future__ import annotations

import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from ..data.annotation_lookup import GroundTruth
from ..data.coco import coco_results, rounded_detections
from ..data.mjpeg import Frame
from ..errors import DatasetError, StreamError
from ..jpeg import JpegWarning, ReadOptions, WarningCounts
from ..jpeg.reader import Source
from ..utils.files import written_whole
from .detector import Detector
from .drawing import JPEG_QUALITY, contact_sheets, draw_detections, draw_ground_truth, load_image, side_by_side
from .journal import Journal, read_lines
from .predictor import Prediction
from .sources import UntilBroken, is_live
from .tiles import TiledDetector

RESULTS, PICTURES = "detections.jsonl", "pictures"
_DRAWING_THREADS = 4  # Pillow decodes and encodes without holding Python's lock
MOST_DRAWN_PX = 6000  # the longest side of a drawn picture; a larger photograph is reduced to it
_LARGE_PX = 1 << 25  # photographs of more pixels than this are drawn one at a time, for the sake of memory
_one_large = Lock()


@dataclass(frozen=True)
class Selection:
    """Which detections of an image are kept.

    score: the least score.
    top: how many at most, the best ones (None: all).
    labels: of which classes (None: all).
    """

    score: float = 0.0
    top: int | None = None
    labels: tuple[int, ...] | None = None

    def __call__(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        keep = found["scores"] >= self.score
        if self.labels is not None:
            keep &= torch.isin(found["labels"], torch.tensor(self.labels, dtype=torch.int64))
        kept = keep.nonzero().squeeze(1)[: self.top]
        return {key: value[kept] for key, value in found.items()}


@dataclass(frozen=True)
class DrawingOptions:
    """How images are drawn.

    folder: where they go.
    format: 'jpeg' or 'png'.
    ground_truth: finds the annotation that is drawn beside the detections.
    """

    folder: Path
    format: str = "jpeg"
    ground_truth: GroundTruth | None = None

    def path(self, index: int, line: dict[str, Any]) -> Path:
        """Where the image goes; numbered, so that files of one name in several folders stay apart and in order."""
        return self.folder / f"{index:06d}_{image_id(line)}{'.jpg' if self.format == 'jpeg' else '.png'}"


@dataclass
class PredictionSummary:
    """What a run came to.

    images: how many were read, or failed to be.
    done_before: how many an earlier run into the same folder had done.
    failed: (name, reason) of each that could not be read.
    not_drawn: (name, reason) of each that was read, but could not be drawn in this run.
    warnings: of the files that were read.
    dropped: how many frames of live streams were dropped.
    """

    images: int = 0
    done_before: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    not_drawn: list[tuple[str, str]] = field(default_factory=list)
    warnings: WarningCounts = field(default_factory=WarningCounts)
    dropped: int = 0


def to_json(prediction: Prediction, class_names: Sequence[str]) -> dict[str, Any]:
    """What a line of the results says of one file or frame; numbers as `rounded_detections` has them."""
    frame = prediction.frame
    source: dict[str, Any] = {"file": prediction.name}
    if frame is not None:
        source = {"file": frame.stream, "frame": frame.number, "time_s": round(frame.time_s, 6)}
    if prediction.error is not None:
        return source | {"error": prediction.error.reason}
    found = [
        {"label": label, "class": class_names[label - 1], "score": score, "box": box}
        for box, score, label in rounded_detections(prediction.value)
    ]
    assert prediction.image_size is not None  # as of every prediction without an error
    height, width = prediction.image_size
    line = source | {"height": height, "width": width, "detections": found}
    if prediction.warnings:
        line["warnings"] = [warning.message for warning in prediction.warnings]
    return line


def image_id(line: dict[str, Any]) -> str:
    """What COCO's results and pictures call a line's image: its file's name without suffix, with a frame's number."""
    stem = Path(line["file"]).stem
    return f"{stem}_{line['frame']:06d}" if "frame" in line else stem


def to_coco(line: dict[str, Any], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """COCO's results from a line.  An image's id is `image_id`: a number where it is one."""
    stem, found = image_id(line), line.get("detections", ())
    columns = {"boxes": [item["box"] for item in found], "scores": [item["score"] for item in found]}
    columns["labels"] = [item["label"] for item in found]
    return coco_results([columns], [int(stem) if stem.isascii() and stem.isdigit() else stem], category_ids)


@contextmanager
def json_list(write: Callable[[str], Any]) -> Iterator[Callable[[Iterable[Any]], None]]:
    """Writes a JSON list, an item per line; what this gives is called with each part of the items."""
    separator = "["

    def add(items: Iterable[Any]) -> None:
        nonlocal separator
        for item in items:
            write(f"{separator}\n{json.dumps(item)}")
            separator = ","

    yield add
    write("\n]\n" if separator == "," else "[\n]\n")


def predict(
    detector: Detector | TiledDetector,
    sources: Iterable[Source | Frame],
    write: Callable[[list[dict[str, Any]]], None],
    *,
    selection: Selection = Selection(),
    drawing: DrawingOptions | None = None,
    strict: bool = False,
    first_index: int = 0,
    on_error: Callable[[str, str], None] = lambda name, reason: None,
    progress: Callable[[int], None] = lambda count: None,
    before: PredictionSummary | None = None,
) -> PredictionSummary:
    """Runs the detector over `sources` and hands over what it finds, in their order, a batch at a time.

    Args:
        write: is called with a batch's lines (`to_json`) when its images are drawn.
        selection: which detections are kept.
        drawing: whether and how images are drawn.
        strict: the first file that cannot be read raises its JpegError; else its line says what is wrong.
        first_index: the first source's index.
        on_error: is called with the name of a file that cannot be read or drawn, and the reason.
        progress: is called with the number of images of each batch.
        before: what an earlier part of the run came to, which is added to.

    Raises:
        JpegError: with `strict`.
        StreamError: a stream of frames broke off; after what was read has been handed over.
    """
    summary = before or PredictionSummary()
    waiting: deque[list[tuple[Prediction, Future | None]]] = deque()

    def commit() -> None:
        batch = waiting.popleft()
        for prediction, drawn in batch:
            if prediction.error is not None:
                summary.failed.append((prediction.name, prediction.error.reason))
                on_error(prediction.name, prediction.error.reason)
                continue
            summary.warnings.add(prediction.name, prediction.warnings)
            if drawn is not None and (reason := drawn.result()) is not None:
                summary.not_drawn.append((prediction.name, reason))
                on_error(prediction.name, reason)
        write([to_json(prediction, detector.class_names) for prediction, _ in batch])
        summary.images += len(batch)
        summary.dropped += sum(prediction.frame.dropped for prediction, _ in batch if prediction.frame is not None)
        progress(len(batch))

    stream = UntilBroken(detector.stream(sources, "raise" if strict else "report", first_index))
    kept = (p if p.error is not None else replace(p, value=selection(p.value)) for p in stream)
    with ThreadPoolExecutor(_DRAWING_THREADS, thread_name_prefix="draw") as threads:

        def drawn(prediction: Prediction) -> Future | None:
            if drawing is None or prediction.error is not None:
                return None
            return threads.submit(_draw, prediction, detector.class_names, drawing, detector.reader.options)

        for first in kept:
            others = 0 if is_live(first.frame) else detector.batch_size - 1
            batch = [first, *itertools.islice(kept, others)]
            waiting.append([(prediction, drawn(prediction)) for prediction in batch])
            while len(waiting) > 2 or (waiting and all(job is None or job.done() for _, job in waiting[0])):
                commit()
        while waiting:
            commit()
    stream.raise_error()
    return summary


def _draw(
    prediction: Prediction, class_names: Sequence[str], drawing: DrawingOptions, options: ReadOptions
) -> str | None:
    """Draws one image -> what went wrong, if anything: the detections are worth keeping without it."""
    path = drawing.path(prediction.index, to_json(prediction, class_names))
    temporary = path.with_name(f".{path.name}.tmp")
    assert prediction.image_size is not None  # as of every prediction without an error
    try:
        with _one_large if prediction.image_size[0] * prediction.image_size[1] > _LARGE_PX else nullcontext():
            _draw_into(temporary, prediction, class_names, drawing, options)
        os.replace(temporary, path)
    except Exception as error:  # each library raises its own: OSError, ValueError, MemoryError, SystemError, ...
        temporary.unlink(missing_ok=True)
        return f"cannot be drawn ({getattr(error, 'reason', None) or error or type(error).__name__})"
    return None


def _draw_into(
    path: Path, prediction: Prediction, class_names: Sequence[str], drawing: DrawingOptions, options: ReadOptions
) -> None:
    jpeg = prediction.name if prediction.frame is None else prediction.frame.data
    image, scale = load_image(jpeg, MOST_DRAWN_PX, options)
    objects = drawing.ground_truth.objects(prediction.name) if drawing.ground_truth is not None else None
    beside = [] if objects is None else [draw_ground_truth(image.copy(), *objects, class_names, scale)]
    whole = side_by_side([draw_detections(image, prediction.value, class_names, scale), *beside])
    whole.save(path, drawing.format, **({"quality": JPEG_QUALITY} if drawing.format == "jpeg" else {}))


def predict_to_folder(
    detector: Detector | TiledDetector,
    sources: Iterable[Source | Frame],
    folder: str | os.PathLike[str],
    *,
    drawing: DrawingOptions | None = None,
    overwrite: bool = False,
    **options: Any,
) -> PredictionSummary:
    """`predict` into `folder`/detections.jsonl; goes on where an earlier, killed run over the same sources stopped.

    Args:
        overwrite: start anew.
        options: `selection`, `strict`, `on_error` and `progress` of `predict`.

    Raises:
        DatasetError: the folder has a run over other sources, or any run where the first source is a live stream.
        StreamError: a stream of frames broke off.  The results are there, of what was read.
    """
    folder = Path(folder)
    if drawing is not None:
        drawing.folder.mkdir(parents=True, exist_ok=True)
        for left_over in drawing.folder.glob(".*.tmp"):
            left_over.unlink()
    sources = iter(sources)
    with Journal(folder / RESULTS, detector.batch_size, overwrite) as journal:
        summary = PredictionSummary(done_before=journal.lines)
        there = itertools.zip_longest(journal.read(), itertools.islice(sources, journal.lines))
        for place, (line, source) in enumerate(there, start=1):
            if line is None or source is None or is_live(source) or _source_of(line) != str(source):
                was, now = "nothing" if line is None else _source_of(line), "nothing" if source is None else str(source)
                other = f"there {was}, now {now} in place {place}"
                raise DatasetError(
                    f"{folder}: holds a run of other files ({other}); choose another folder, or overwrite"
                )
            if "error" in line:
                summary.failed.append((_source_of(line), line["error"]))
            summary.warnings.add(line["file"], map(JpegWarning, line.get("warnings", ())))
        options |= {"drawing": drawing, "first_index": journal.lines, "before": summary}
        try:
            predict(detector, sources, journal.append, **options)
        except StreamError:
            journal.finish()
            raise
        journal.finish()
    return summary


def _source_of(line: dict[str, Any]) -> str:
    """The source of a line, as `str` has it."""
    return str(Frame(line["frame"], 0.0, b"", line["file"])) if "frame" in line else line["file"]


def write_coco(folder: str | os.PathLike[str], category_ids: Sequence[int]) -> Path:
    """`folder`/detections.json from its detections.jsonl, a line in memory at a time; whole or not at all."""
    path = Path(folder) / "detections.json"
    with written_whole(path) as name, open(name, "w", encoding="ascii") as file, json_list(file.write) as add:
        for line in read_lines(Path(folder) / RESULTS):
            add(to_coco(line, category_ids))
    return path


def write_contact_sheets(folder: str | os.PathLike[str], drawing: DrawingOptions) -> list[Path]:
    """`folder`/contact_sheet_001.jpg ... of all images that the run drew."""
    paths = []
    lines = enumerate(read_lines(Path(folder) / RESULTS))
    images = (drawing.path(index, line) for index, line in lines if "error" not in line)
    for number, sheet in enumerate(contact_sheets(path for path in images if path.is_file()), start=1):
        paths.append(Path(folder) / f"contact_sheet_{number:03d}.jpg")
        with written_whole(paths[-1]) as temporary:
            sheet.save(temporary, "JPEG", quality=JPEG_QUALITY)
    return paths
