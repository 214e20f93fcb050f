"""Top-1 and top-5 of a classifier, RGB or DCT, from a folder for each class.

jpegdeep eval imagenet WEIGHTS ROOT
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from ..data.annotations import DatasetIssues
from ..data.imagenet import read_imagenet
from ..errors import DatasetError
from ..evaluation.imagenet import evaluate_imagenet
from ..evaluation.records import imagenet_record
from ..evaluation.report import wrong_classes
from ..evaluation.svg import bars
from ..inference.classifier import Classifier
from ..utils.text_table import text_table
from .command import Parser
from .common import add_evaluation_arguments, add_predictor_arguments, finish, limited, load, progress_bar


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="jpegdeep eval imagenet", description=__doc__.splitlines()[0])
    p.add_argument("weights", metavar="WEIGHTS", help="a classifier's safetensors file")
    p.add_argument("root", metavar="ROOT", help="a folder with a folder of JPEGs for each class")
    p.add_argument("--class-index", metavar="FILE",
                   help="which folder is which class: Keras's imagenet_class_index.json, a JSON list, or a text file "
                        "with a folder a line (default: the folders, sorted)")  # fmt: skip
    add_evaluation_arguments(p)
    add_predictor_arguments(p)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    classifier = load(Classifier, args)
    data = read_imagenet(args.root, classifier.config.num_classes, args.class_index)
    problems = DatasetIssues(args.lenient)
    paths, labels, predictions, probabilities = [], [], [], []
    sources = limited(data.paths, args.limit)
    answers = progress_bar(classifier.stream(sources, on_error="report"), total=len(sources), desc="classifying")
    for path, label, answer in zip(sources, data.labels, answers):
        if answer.error is not None:
            problems.report("unreadable picture", str(answer.error))
            continue
        paths.append(path)
        labels.append(label)
        predictions.append(answer.value["classes"].numpy())
        probabilities.append(answer.value["probabilities"].numpy())
    if not paths:
        raise DatasetError(f"{args.root}: no picture can be read")
    result = evaluate_imagenet(np.stack(predictions), np.stack(probabilities), labels)
    names = [str(path.relative_to(args.root)) for path in paths]
    figures, samples = imagenet_record(result, names, data.class_names)
    print(text_table([{"images": len(paths), "top-1": result.top1, "top-5": result.top5}]))
    page = {}
    if args.report:
        page = {
            "title": f"{classifier.config.name} on {args.root}",
            "headline": [("top-1", result.top1), ("top-5", result.top5)],
            "table": figures["classes"],
            "plots": [
                bars([(row["name"], row["top1"]) for row in sorted(figures["classes"], key=lambda r: r["top1"])[:50]])
            ],
            "galleries": [("Surest mistakes", wrong_classes(paths, result, data.class_names))],
        }
    finish("eval.imagenet", args, classifier, figures, samples, problems, page)
