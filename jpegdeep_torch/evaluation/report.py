"""An evaluation as one HTML page: figures, plots, images of the worst mistakes, and the run's settings.

The page holds all it shows (SVG, images as data URIs, its style) and fetches nothing: it can be mailed or archived.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from PIL import Image

from ..data.annotations import AnnotatedImage
from ..errors import JpegError
from ..inference.drawing import GROUND_TRUTH_COLOUR, Colour, class_colour, draw_boxes, load_image
from ..jpeg.options import DEFAULT_OPTIONS, ReadOptions
from ..utils.files import make_folder, write_text
from .imagenet import ImageNetResult
from .matching import FALSE, HIT, ClassMatches

_IMAGE_PX = 300
_MOST_OF_AN_IMAGE = 2  # times that a gallery shows it: one bad image would fill it

# The policy makes the promise checkable: a browser refuses whatever the page would fetch.
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
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
path{fill:none;vector-effect:non-scaling-stroke}.grid{stroke:#e8eaed}.curve{stroke:#a8c7fa}
.envelope{stroke:#1a73e8;stroke-width:1.8}
</style></head>
<body><h1>{{ title }}</h1>
<p>{% for name, value in headline %}<span class="big">{{ value|shown }}<small>{{ name }}</small></span>{% endfor %}</p>
{% if table %}<table><tr>{% for key in table[0] %}<th>{{ key }}</th>{% endfor %}</tr>
{% for row in table %}<tr>{% for value in row.values() %}<td>{{ value|shown }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
{% if plots %}<h2>Curves</h2><div class="pictures plots">{{ plots|join }}</div>{% endif %}
{% for heading, images in galleries %}<h2>{{ heading }}</h2><div class="pictures">
{% for item in images %}<figure><img alt="{{ item.caption }}" src="{{ item.image|data_uri }}">
<figcaption>{{ item.caption }}</figcaption></figure>
{% else %}<p>None.</p>{% endfor %}</div>
{% endfor %}<h2>Settings</h2><table class="settings">
{% for key, value in settings.items() %}<tr><td>{{ key }}</td><td>{{ value }}</td></tr>
{% endfor %}</table></body></html>
"""


@dataclass(frozen=True)
class CaptionedImage:
    """An image with the words under it."""

    image: Image.Image
    caption: str


def false_positives(
    images: Sequence[AnnotatedImage],
    matches: Sequence[ClassMatches],
    class_names: Sequence[str],
    most: int = 24,
    *,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> list[CaptionedImage]:
    """The surest false detections, at most two of an image, each with the object it overlaps most (white).

    options: how the pictures were read that the boxes are of.
    """
    candidates = [
        (float(match.scores[k]), label, int(k))
        for label, match in enumerate(matches, start=1)
        for k in np.flatnonzero(match.outcomes == FALSE)[: most * 50]
    ]
    gallery: list[CaptionedImage] = []
    shown: Counter[int] = Counter()
    for score, label, k in sorted(candidates, key=lambda item: -item[0]):
        match, name = matches[label - 1], class_names[label - 1]
        index = int(match.images[k])
        if len(gallery) == most or shown[index] == _MOST_OF_AN_IMAGE:
            continue
        shown[index] += 1
        image = images[index]
        objects, why = [], "no such object near"
        if match.objects[k] >= 0:
            objects = [(image.boxes[match.objects[k]], "", GROUND_TRUTH_COLOUR)]
            overlap = match.overlaps[k]
            why = f"IoU {overlap:.2f} with the nearest" + (", found already" if overlap >= 0.5 else "")
        detection = match.boxes[k], f"{name} {score:.2f}", class_colour(label)
        gallery += _drawn(image.path, options, [*objects, detection], f"{image.name}: {name} {score:.3f}, {why}")
    return gallery


def misses(
    images: Sequence[AnnotatedImage],
    matches: Sequence[ClassMatches],
    class_names: Sequence[str],
    most: int = 24,
    *,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> list[CaptionedImage]:
    """The largest objects that no detection hit (as a share of their image), ignored ones aside."""
    found: set[tuple[int, int]] = set()
    for match in matches:
        hit = match.outcomes == HIT
        found.update(zip(match.images[hit].tolist(), match.objects[hit].tolist()))
    missed = []
    for index, image in enumerate(images):
        area = (image.boxes[:, 2:] - image.boxes[:, :2]).prod(axis=1) / (image.height_px * image.width_px)
        own = np.flatnonzero(~image.ignore).tolist()
        missed += [(float(area[k]), image, k) for k in own if (index, k) not in found]
    gallery = []
    for area, image, k in sorted(missed, key=lambda item: -item[0])[:most]:
        label, name = int(image.labels[k]), class_names[image.labels[k] - 1]
        box = image.boxes[k], name, class_colour(label)
        gallery += _drawn(image.path, options, [box], f"{image.name}: {name}, {area:.1%} of the image")
    return gallery


def wrong_classes(
    paths: Sequence[Path],
    result: ImageNetResult,
    class_names: Sequence[str],
    most: int = 24,
    *,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> list[CaptionedImage]:
    """The images whose wrong first prediction was surest."""
    wrong = np.flatnonzero(result.predictions[:, 0] != result.labels)
    gallery = []
    for index in wrong[np.argsort(-result.probabilities[wrong, 0], kind="stable")][:most]:
        said, sure = class_names[result.predictions[index, 0]], result.probabilities[index, 0]
        is_class = class_names[result.labels[index]]
        gallery += _drawn(paths[index], options, [], f"{paths[index].name}: is {is_class}, said {said} ({sure:.2f})")
    return gallery


def _drawn(
    path: Path, options: ReadOptions, boxes: Sequence[tuple[np.ndarray, str, Colour]], caption: str
) -> list[CaptionedImage]:
    """The image with (box, text, colour) drawn in; nothing where it is gone or replaced since it was read."""
    try:
        image, scale = load_image(path, _IMAGE_PX, options)
    except JpegError:
        return []
    for box, text, colour in boxes:
        draw_boxes(image, box, [text], [colour], scale)
    return [CaptionedImage(image, caption)]


def write_report(
    folder: str | os.PathLike[str],
    title: str,
    headline: Sequence[tuple[str, float]],
    table: Sequence[dict[str, Any]],
    plots: Sequence[str] = (),
    galleries: Sequence[tuple[str, Sequence[CaptionedImage]]] = (),
    settings: dict[str, Any] | None = None,
) -> Path:
    """Writes `folder`/index.html, whole or not at all.

    Args:
        headline: (name, value) of the figures that matter.
        table: a row for each class, keyed by the columns' names.
        plots: SVG.
        galleries: (heading, images).
        settings: of the run.

    Returns:
        The page's path.

    Raises:
        DatasetError: it cannot be written.
    """
    environment = Environment(autoescape=True)
    environment.filters.update(shown=_shown, data_uri=_data_uri)
    page = environment.from_string(_PAGE).render(
        title=title, headline=headline, table=table, plots=[Markup(plot) for plot in plots], galleries=galleries,
        settings=settings or {},
    )  # fmt: skip
    return write_text(make_folder(folder) / "index.html", page)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return str(value)


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
