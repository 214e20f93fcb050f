"""`jpegdeep predict` of shards: tar files, folders and Parquet files in any storage, a Parquet file for each."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from ..data.shards import expand_shards
from ..errors import ModelError
from ..inference.detector import Detector
from ..inference.writer import Selection
from ..pretrained import weights_file
from ..scale.job import JobSummary, own_part, predict_shards
from ..utils.files import sha256_of
from .common import load, print_warnings, progress_bar, run_settings

_MOST_MESSAGES = 20


def predict_shards_to(
    args: argparse.Namespace, labels: Callable[[list[str] | None, list[str]], tuple[int, ...] | None]
) -> int:
    """Runs the command over shards -> its exit status: 1 where a shard could not be read.

    `labels` turns --classes and the network's class names into labels.
    """
    if not args.output:
        raise ModelError("results of shards are Parquet files: they need -o DIR")
    others = args.show_truth, args.truth, args.sheet, args.strict, args.tiles is not None, args.format == "coco"
    if any(others):
        raise ModelError("--show-truth, --truth, --sheet, --strict, --tiles and --format coco do not go with shards")
    shards = expand_shards(args.inputs)
    number, count = own_part()
    if count > 1 and args.device in (None, "cuda") and (local := os.environ.get("LOCAL_RANK")):
        args.device = _own_device(int(local), args.device)
    detector = load(Detector, args)
    with weights_file(args.weights, task=Detector.task) as file:
        weights_sha256 = sha256_of(file)
    settings = run_settings(args, detector) | {
        "weights": weights_sha256, "score": args.score, "top": args.top, "classes": args.classes,
        "device": detector.device.type,
    }  # fmt: skip
    selection = Selection(args.score, args.top, labels(args.classes, detector.class_names))
    whose = f" [{number} of {count}]" if count > 1 else ""
    with progress_bar(desc=f"detecting{whose}") as bar:
        shown = _Shown(bar)
        done = predict_shards(
            detector, shards, args.output, selection=selection, settings=settings, overwrite=args.overwrite,
            progress=shown.progress, on_error=shown.on_error,
        )  # fmt: skip
    errors = sum(done.rows.errors.values())
    print_warnings(done.warnings)
    before = f", {done.done_before} of them done before" if done.done_before else ""
    print(f"{done.shards} shards{whose}{before}; {done.rows.files} files, {errors} could not be read", file=sys.stderr)
    for shard, reason in done.failed.items():
        print(f"error: {shard}: {reason}", file=sys.stderr)
    return 1 if done.failed else 0


def _own_device(local_rank: int, device: str | None) -> str | None:
    """The GPU of this process among a machine's, where there are GPUs."""
    import torch

    return f"cuda:{local_rank}" if torch.cuda.is_available() else device


class _Shown:
    """Progress and errors on a bar, the first errors in words."""

    def __init__(self, bar: tqdm):
        self.bar, self.messages, self.began, self.ended_shards = bar, 0, time.monotonic(), 0

    def progress(self, files: int, summary: JobSummary) -> None:
        self.bar.update(files)
        if files:
            return
        self.ended_shards += 1
        left = summary.shards - summary.done_before - self.ended_shards
        seconds = (time.monotonic() - self.began) / self.ended_shards * left
        done = summary.done_before + self.ended_shards
        self.bar.set_postfix_str(f"{done} of {summary.shards} shards, {seconds / 60:.1f} min left", refresh=False)

    def on_error(self, name: str, reason: str) -> None:
        self.messages += 1
        if self.messages <= _MOST_MESSAGES:
            self.bar.write(f"{name}: {reason}", file=sys.stderr)
        elif self.messages == _MOST_MESSAGES + 1:
            self.bar.write("further errors are in the results and the summary", file=sys.stderr)
