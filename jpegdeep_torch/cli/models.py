"""List the networks, and the weights that have a name; of one of either, all that there is to know.

jpegdeep models
jpegdeep models bccd
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from ..errors import ModelError
from ..models import create_model, list_models, model_config
from ..pretrained import WEIGHTS, PretrainedWeights
from ..weights import CARD_FIELDS, read_info
from .command import Parser

_WIDTH = 100


def main(argv: Sequence[str] | None = None) -> None:
    p = Parser(prog="jpegdeep models", description=__doc__.splitlines()[0])
    p.add_argument("name", nargs="?", metavar="NAME", help="of weights or a network (default: a list of all)")
    args = p.parse_args(argv)
    if args.name is None:
        lines = _all()
    elif rows := [row for row in WEIGHTS if row.name == args.name]:
        lines = (line for row in rows for line in _weights(row))
    elif args.name in list_models():
        lines = _network(args.name)
    else:
        known = ", ".join(dict.fromkeys(row.name for row in WEIGHTS))
        raise ModelError(f"{args.name}: neither weights ({known}) nor a network (those that `list_models()` gives)")
    print(*lines, sep="\n")


def _all() -> Iterator[str]:
    yield "weights that have a name:"
    for row in WEIGHTS:
        yield f"  {row.name:12} {row.model:32} {row.source}"
    yield ""
    yield "networks:"
    for name in list_models():
        config = model_config(name)
        yield f"  {name:32} {config.task:11} {config.image_size} px, {config.inputs}"


def _network(name: str) -> Iterator[str]:
    import torch

    with torch.device("meta"):
        model = create_model(name)
    config = model.config
    inputs = ", ".join(f"{key} {shape}" for key, shape in config.input_shapes().items())
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    yield f"{name}: a {config.task} of {millions:.1f} million weights at full width"
    yield from _field("inputs", inputs)
    named = [row.name for row in WEIGHTS if row.model == name]
    yield from _field("weights", ", ".join(named) or "none that have a name")


def _weights(row: PretrainedWeights) -> Iterator[str]:
    yield f"{row.name}: weights of {row.model}"
    yield from _field("source", row.source)
    yield from _field("licence", row.licence)
    yield from _field("takes", row.takes)
    if row.is_shipped:  # others would have to be fetched first
        with row.opened() as path:
            info = read_info(path)
            size_mb = path.stat().st_size / 1e6
        yield from _field("file", f"{size_mb:.1f} MB, sha256 {row.sha256}")
        yield from _field("classes", ", ".join(info.class_names or ()))
        for key in CARD_FIELDS:
            if key != "licence":  # which the row says
                yield from _field(key, (info.card or {}).get(key, "not said"))


def _field(name: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, _WIDTH, initial_indent=f"  {name:9}", subsequent_indent=" " * 11)
