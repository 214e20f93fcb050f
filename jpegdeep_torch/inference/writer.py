"""Detections of many files as JSON Lines and pictures, resumable."""

from __future__ import annotations

import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.annotation_lookup import GroundTruth
from ..errors import DatasetError, JpegError
from ..utils.files import written_whole
from .detector import Detector
from .drawing import contact_sheets, draw_detections, draw_truth, load_picture, side_by_side
from .journal import Journal, read_lines
from .predictor import Prediction

RESULTS, PICTURES = "detections.jsonl", "pictures"
_SUFFIX = {"jpeg": ".jpg", "png": ".png"}
_DRAWERS = 4  # threads: Pillow decodes and encodes without holding Python's lock


@dataclass(frozen=True)
class Selection:
    """Which detections are kept: score at least `score`, labels in `labels` (None: all), the best `top` (None: all)."""

    score: float = 0.0
    top: int | None = None
    labels: tuple[int, ...] | None = None

    def __call__(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        keep = found["scores"] >= self.score
        if self.labels is not None:
            keep &= torch.isin(found["labels"], torch.tensor(self.labels, dtype=torch.int64))
        rows = keep.nonzero().squeeze(1)[: self.top]
        return {key: value[rows] for key, value in found.items()}


@dataclass(frozen=True)
class Drawing:
    """How pictures are made: 'jpeg' or 'png', with the annotation beside them where `truth` finds one."""

    folder: Path
    kind: str = "jpeg"
    truth: GroundTruth | None = None


@dataclass
class PredictionSummary:
    """What a run came to.  `done_before` were there already."""

    images: int = 0
    done_before: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def row_of(answer: Prediction, class_names: Sequence[str]) -> dict[str, Any]:
    """The JSON of one answer: boxes in pixels to 0.01, scores to 5 digits."""
    if answer.error is not None:
        return {"file": answer.name, "error": answer.error.reason}
    boxes = answer.value["boxes"].double().tolist()
    found = [
        {"label": label, "class": class_names[label - 1], "score": round(score, 5), "box": [round(v, 2) for v in box]}
        for box, score, label in zip(boxes, answer.value["scores"].tolist(), answer.value["labels"].tolist())
    ]
    return {"file": answer.name, "height": answer.image_size[0], "width": answer.image_size[1], "detections": found}


def predict(
    detector: Detector,
    sources: Iterable[str],
    write: Callable[[list[dict[str, Any]]], None],
    *,
    selection: Selection = Selection(),
    drawing: Drawing | None = None,
    strict: bool = False,
    first_index: int = 0,
    tally: PredictionSummary | None = None,
    on_error: Callable[[str, str], None] = lambda name, reason: None,
    progress: Callable[[int], None] = lambda count: None,
) -> PredictionSummary:
    """Runs the detector over `sources` and hands rows to `write`, in order, a batch at a time, its pictures done.

    `strict`: the first file that cannot be read raises its JpegError; else its row has an 'error', and `on_error` hears
    of it.  `progress` is told how many images each batch finished.
    """
    tally = tally if tally is not None else PredictionSummary()
    waiting: deque[list[tuple[Prediction, Future | None]]] = deque()

    def commit() -> None:
        group = waiting.popleft()
        for answer, drawn in group:
            if drawn is not None and (problem := drawn.result()) is not None:
                on_error(answer.name, problem)
            if answer.error is not None:
                tally.failed.append((answer.name, answer.error.reason))
                on_error(answer.name, answer.error.reason)
        write([row_of(answer, detector.class_names) for answer, _ in group])
        tally.images += len(group)
        progress(len(group))

    with ThreadPoolExecutor(_DRAWERS, thread_name_prefix="draw") as drawers:
        for group in _groups(detector, sources, strict, first_index, selection):
            draw = drawers.submit if drawing is not None else None
            waiting.append(
                [
                    (a, draw(_draw, a, detector.class_names, drawing) if draw and a.error is None else None)
                    for a in group
                ]
            )
            if len(waiting) > 2:
                commit()
        while waiting:
            commit()
    return tally


def _groups(
    detector: Detector, sources: Iterable[str], strict: bool, first_index: int, selection: Selection
) -> Iterator[list[Prediction]]:
    """The stream in groups of a batch, with what is left out left out."""
    stream = detector.stream(sources, "raise" if strict else "report", first_index)
    kept = (a if a.error is not None else Prediction(a.index, a.name, selection(a.value), a.image_size) for a in stream)
    return iter(lambda: list(itertools.islice(kept, detector.batch_size)), [])


def picture_path(drawing: Drawing, index: int, name: str) -> Path:
    """Numbered, so that files of one name in several folders stay apart and in order."""
    return drawing.folder / f"{index:06d}_{Path(name).stem}{_SUFFIX[drawing.kind]}"


def _draw(answer: Prediction, class_names: Sequence[str], drawing: Drawing) -> str | None:
    """Makes one picture; -> what went wrong, if anything: the detections are worth keeping without it."""
    try:
        picture, _ = load_picture(answer.name)
    except JpegError as error:
        return error.reason
    objects = drawing.truth.objects(answer.name) if drawing.truth is not None else None
    beside = [draw_truth(picture.copy(), *objects, class_names)] if objects is not None else []
    whole = side_by_side([draw_detections(picture, answer.value, class_names), *beside]) if beside else (
        draw_detections(picture, answer.value, class_names)
    )  # fmt: skip
    path = picture_path(drawing, answer.index, answer.name)
    temporary = path.with_name(f".{path.name}.tmp")
    whole.save(
        temporary, "JPEG" if drawing.kind == "jpeg" else "PNG", **({"quality": 88} if drawing.kind == "jpeg" else {})
    )
    os.replace(temporary, path)
    return None


def predict_to_folder(
    detector: Detector,
    sources: Iterable[str],
    folder: str | os.PathLike[str],
    *,
    drawing: Drawing | None = None,
    overwrite: bool = False,
    **options: Any,
) -> PredictionSummary:
    """`predict` into `folder`/detections.jsonl; goes on where an earlier, killed run of the same list stopped."""
    folder = Path(folder)
    if drawing is not None:
        drawing.folder.mkdir(parents=True, exist_ok=True)
        for left_over in drawing.folder.glob(".*.tmp"):
            left_over.unlink()
    sources = iter(sources)
    with Journal(folder / RESULTS, detector.batch_size, overwrite) as journal:
        tally = PredictionSummary()
        for row, name in itertools.zip_longest(journal.read(), itertools.islice(sources, journal.lines)):
            if row is None or name is None or row["file"] != name:
                there = row["file"] if row else "nothing"
                raise DatasetError(
                    f"{folder}: holds a run of other files (there {there}, now {name or 'nothing'} in place "
                    f"{tally.done_before + 1}); choose another folder, or overwrite"
                )
            tally.done_before += 1
            if "error" in row:
                tally.failed.append((row["file"], row["error"]))
        predict(
            detector, sources, journal.append, drawing=drawing, first_index=tally.done_before, tally=tally, **options
        )
        journal.finish()
    return tally


def coco_rows(rows: Iterable[dict[str, Any]], category_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """COCO's results from JSON lines.  An image's id is its file's name without suffix: a number where it is one."""
    for row in rows:
        stem = Path(row["file"]).stem
        image_id = int(stem) if stem.isascii() and stem.isdigit() else stem
        for item in row.get("detections", ()):
            x, y, right, bottom = item["box"]
            box = [x, y, round(right - x, 2), round(bottom - y, 2)]
            category = category_ids[item["label"] - 1]
            yield {"image_id": image_id, "category_id": category, "bbox": box, "score": item["score"]}


def write_coco(folder: str | os.PathLike[str], category_ids: Sequence[int]) -> Path:
    """`folder`/detections.json from its detections.jsonl, a row in memory at a time; whole or not at all."""
    path = Path(folder) / "detections.json"
    with written_whole(path) as temporary, open(temporary, "w", encoding="ascii") as file:
        file.write("[")
        for count, row in enumerate(coco_rows(read_lines(Path(folder) / RESULTS), category_ids)):
            file.write((",\n" if count else "\n") + json.dumps(row))
        file.write("\n]\n")
    return path


def write_contact_sheets(folder: str | os.PathLike[str], drawing: Drawing) -> list[Path]:
    """`folder`/contact_sheet_001.jpg ... of all pictures of the run."""
    paths = []
    rows = enumerate(read_lines(Path(folder) / RESULTS))
    pictures = (picture_path(drawing, index, row["file"]) for index, row in rows if "error" not in row)
    for number, sheet in enumerate(contact_sheets(p for p in pictures if p.is_file()), start=1):
        path = Path(folder) / f"contact_sheet_{number:03d}.jpg"
        with written_whole(path) as temporary:
            sheet.save(temporary, "JPEG", quality=88)
        paths.append(path)
    return paths
