"""An evaluation as one HTML page: figures, plots, the worst mistakes as pictures, and the run's settings.

The page holds all it shows (SVG, pictures as data URIs, its style) and fetches nothing: it can be mailed or archived.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.annotations import AnnotatedImage
from ..errors import DatasetError, JpegError
from ..inference.drawing import TRUTH_COLOUR, class_colour, draw_boxes, load_picture
from ..utils.files import written_whole
from .imagenet import ImageNetResult
from .matching import FALSE, HIT, ClassMatches

_PICTURE_PX = 300
_MOST_OF_AN_IMAGE = 2  # pictures in a gallery: one bad image would fill it

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;color:#202124;background:#fff}
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:1.8em;border-bottom:1px solid #dadce0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #eee}td:first-child,th:first-child{text-align:left}
.settings td{text-align:left;vertical-align:top;overflow-wrap:anywhere}
.bars{flex:0 0 100%}
.big{font-size:1.5em;margin-right:1.6em;display:inline-block}.big small{font-size:.55em;color:#5f6368;display:block}
.pictures{display:flex;flex-wrap:wrap;gap:12px}figure{margin:0;width:300px}
figcaption{font-size:.85em;color:#5f6368;overflow-wrap:anywhere}img{max-width:100%}
svg text{font:10px system-ui,sans-serif;fill:#5f6368}svg .title{font-size:13px;fill:#202124}
.bars text{font-size:12px;fill:#202124}.bar{fill:#1a73e8}
.grid{stroke:#e8eaed;fill:none}.curve{stroke:#a8c7fa;fill:none}.envelope{stroke:#1a73e8;fill:none;stroke-width:1.8}
"""


@dataclass(frozen=True)
class Figure:
    """A picture with the words under it."""

    picture: Image.Image
    caption: str


def false_positives(
    images: Sequence[AnnotatedImage], matches: Sequence[ClassMatches], class_names: Sequence[str], most: int = 24
) -> list[Figure]:
    """The surest false detections, at most two of an image, each with the object it overlaps most (white)."""
    rows = [
        (float(match.scores[row]), k, int(row))
        for k, match in enumerate(matches)
        for row in np.flatnonzero(match.outcomes == FALSE)[: most * 50]
    ]
    figures: list[Figure] = []
    shown: Counter[int] = Counter()
    for score, k, row in sorted(rows, key=lambda item: -item[0]):
        match, name = matches[k], class_names[k]
        index = int(match.images[row])
        if len(figures) == most or shown[index] == _MOST_OF_AN_IMAGE:
            continue
        shown[index] += 1
        image = images[index]
        boxes, texts, colours = [match.boxes[row]], [f"{name} {score:.2f}"], [class_colour(k + 1)]
        why = "no such object near"
        if match.objects[row] >= 0:
            overlap = match.overlaps[row]
            boxes.insert(0, image.boxes[match.objects[row]])
            texts.insert(0, "")
            colours.insert(0, TRUTH_COLOUR)
            why = f"IoU {overlap:.2f} with the nearest" + (", found already" if overlap >= 0.5 else "")
        figures += _figure(image, boxes, texts, colours, f"{image.name}: {name} {score:.3f}, {why}")
    return figures


def misses(
    images: Sequence[AnnotatedImage], matches: Sequence[ClassMatches], class_names: Sequence[str], most: int = 24
) -> list[Figure]:
    """The largest objects that no detection hit (as a share of their image), ignored ones aside."""
    found: set[tuple[int, int]] = set()
    for match in matches:
        hit = match.outcomes == HIT
        found.update(zip(match.images[hit].tolist(), match.objects[hit].tolist()))
    missed = []
    for index, image in enumerate(images):
        area = (image.boxes[:, 2:] - image.boxes[:, :2]).prod(axis=1) / (image.height_px * image.width_px)
        missed += [
            (float(area[k]), index, k) for k in np.flatnonzero(~image.ignore).tolist() if (index, k) not in found
        ]
    figures = []
    for area, index, k in sorted(missed, key=lambda item: -item[0])[:most]:
        image, label = images[index], int(images[index].labels[k])
        caption = f"{image.name}: {class_names[label - 1]}, {area:.1%} of the image"
        figures += _figure(image, [image.boxes[k]], [class_names[label - 1]], [class_colour(label)], caption)
    return figures


def wrong_classes(
    paths: Sequence[Path], result: ImageNetResult, class_names: Sequence[str], most: int = 24
) -> list[Figure]:
    """The pictures whose wrong first prediction was surest."""
    wrong = np.flatnonzero(result.predictions[:, 0] != result.labels)
    figures = []
    for index in wrong[np.argsort(-result.probabilities[wrong, 0], kind="stable")][:most]:
        said, sure = class_names[result.predictions[index, 0]], result.probabilities[index, 0]
        try:
            picture, _ = load_picture(paths[index], _PICTURE_PX)
        except JpegError:
            continue
        caption = f"{paths[index].name}: is {class_names[result.labels[index]]}, said {said} ({sure:.2f})"
        figures.append(Figure(picture, caption))
    return figures


def _figure(
    image: AnnotatedImage, boxes: list, texts: list[str], colours: list[tuple[int, int, int]], caption: str
) -> list[Figure]:
    try:
        picture, scale = load_picture(image.path, _PICTURE_PX)
    except JpegError:  # gone or replaced since it was read: the report does without
        return []
    return [Figure(draw_boxes(picture, np.array(boxes), texts, colours, scale), caption)]


def html_page(
    title: str,
    headline: Sequence[tuple[str, float]],
    table: Sequence[dict[str, Any]],
    plots: Sequence[str] = (),
    galleries: Sequence[tuple[str, Sequence[Figure]]] = (),
    settings: dict[str, Any] | None = None,
) -> str:
    """The page's text.  `headline`: the figures that matter; `table`: one row a class; `plots`: SVG."""
    big = "".join(f'<span class="big">{_number(value)}<small>{escape(name)}</small></span>' for name, value in headline)
    parts = [f"<h1>{escape(title)}</h1><p>{big}</p>", _table(table)]
    if plots:
        parts.append(f'<h2>Curves</h2><div class="pictures plots">{"".join(plots)}</div>')
    for name, figures in galleries:
        shown = "".join(map(_html_figure, figures)) or "<p>None.</p>"
        parts.append(f'<h2>{escape(name)}</h2><div class="pictures">{shown}</div>')
    rows = "".join(f"<tr><td>{escape(str(k))}</td><td>{escape(str(v))}</td></tr>" for k, v in (settings or {}).items())
    parts.append(f'<h2>Settings</h2><table class="settings">{rows}</table>')
    # The policy makes the promise checkable: a browser refuses whatever the page would fetch.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{_STYLE}</style></head>\n'
        f"<body>{chr(10).join(parts)}</body></html>\n"
    )


def write_report(folder: str | os.PathLike[str], page: str) -> Path:
    """Writes `folder`/index.html, whole or not at all."""
    path = Path(folder) / "index.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(key)}</th>" for key in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_number(v)}</td>" for v in row.values()) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return escape(str(value))


def _html_figure(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.picture.save(buffer, "JPEG", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    caption = escape(figure.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )
