"""A twin's proof as a page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import JpegError
from ..evaluation.report import CaptionedImage, write_report
from ..inference.drawing import load_image
from .make import TwinResult
from .proof import Proof

_IMAGE_PX = 300
_MOST = 24


def write_page(folder: str | os.PathLike[str], result: TwinResult, settings: Mapping[str, Any]) -> Path:
    """Writes `folder`/index.html: the figures, and both networks' answers on held-out pictures.

    Raises:
        DatasetError: it cannot be written.
    """
    proof = result.proof
    headline = [("explained variance", proof.agreements[0].explained)]
    if proof.agreements[0].top1 is not None:
        headline.append(("same class", proof.agreements[0].top1))
    headline.append(("times as fast", proof.teacher_ms / proof.twin_ms))
    differing = [answer for answer in proof.answers if answer[1] != answer[2]]
    same = [answer for answer in proof.answers if answer[1] == answer[2]]
    galleries = [("Other classes", _gallery(differing)), ("The same class", _gallery(same))] if proof.answers else []
    title = (
        f"{result.info.teacher} and its twin ({result.info.stem} stem in place of the layers up to {result.info.layer})"
    )
    return write_report(folder, title, headline, table_of(proof), galleries=galleries, settings=dict(settings))


def table_of(proof: Proof) -> list[dict[str, Any]]:
    """A row for each quality."""
    return [
        {"quality": a.quality or "own", "pictures": a.images, "explained variance": a.explained,
         "same class": "-" if a.top1 is None else a.top1}
        for a in proof.agreements
    ]  # fmt: skip


def _gallery(answers: list[tuple[Path, int, int]]) -> list[CaptionedImage]:
    gallery = []
    for path, theirs, ours in answers[:_MOST]:
        try:
            image = load_image(path, _IMAGE_PX)[0]
        except JpegError:  # gone since it was read
            continue
        gallery.append(CaptionedImage(image, f"{path.name}: teacher {theirs}, twin {ours}"))
    return gallery
