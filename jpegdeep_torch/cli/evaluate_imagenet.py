"""Top-1 and top-5 of a classifier, RGB or DCT, from a folder for each class.

jpegdeep eval imagenet WEIGHTS ROOT
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.annotations import DatasetIssues
from ..data.imagenet import read_imagenet
from ..evaluation.imagenet import evaluate_imagenet
from ..evaluation.records import imagenet_record
from ..evaluation.report import wrong_classes
from ..evaluation.svg import bars
from ..inference.classifier import Classifier
from ..utils.text_table import text_table
from .common import evaluation_parser, finish, limited, load, predict_all


def main(argv: Sequence[str] | None = None) -> None:
    p = evaluation_parser("jpegdeep eval imagenet", __doc__, "ROOT", "a folder with a folder of JPEGs for each class")
    p.add_argument("--class-index", metavar="FILE",
                   help="which folder is which class: Keras's imagenet_class_index.json, a JSON list, or a text file "
                        "with a folder per line (default: the folders, sorted)")  # fmt: skip
    args = p.parse_args(argv)
    classifier = load(Classifier, args)
    data = read_imagenet(args.root, classifier.config.num_classes, args.class_index)
    issues = DatasetIssues(args.lenient)
    indices, found = predict_all(classifier, limited(data.paths, args.limit), issues, "classifying")
    paths, labels = [data.paths[index] for index in indices], [data.labels[index] for index in indices]
    predictions, probabilities = (np.stack([f[key].numpy() for f in found]) for key in ("classes", "probabilities"))
    result = evaluate_imagenet(predictions, probabilities, labels)
    record = imagenet_record(result, [str(path.relative_to(args.root)) for path in paths], data.class_names)
    classes = record[0]["classes"]
    print(text_table([{"images": len(paths), "top-1": result.top1, "top-5": result.top5}]))

    def page() -> dict[str, Any]:
        worst = sorted(classes, key=lambda row: row["top1"])[:50]
        return {
            "title": f"{classifier.config.name} on {args.root}",
            "headline": [("top-1", result.top1), ("top-5", result.top5)],
            "table": classes,
            "plots": [bars([(row["name"], row["top1"]) for row in worst])],
            "galleries": [("Surest mistakes", wrong_classes(paths, result, data.class_names))],
        }

    finish("eval.imagenet", args, classifier, record, issues, page)
