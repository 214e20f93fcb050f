"""COCO's twelve figures of a detector.

jpegdeep eval coco WEIGHTS COCO_ROOT --set val2017
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data.annotations import DatasetIssues
from ..data.coco import coco_results, read_coco
from ..evaluation.coco import evaluate_coco, find_evaluator
from ..evaluation.matching import match_all
from ..evaluation.records import coco_record
from ..evaluation.svg import bars, precision_recall_plot
from ..inference.detector import Detector
from ..utils.files import write_json
from ..utils.text_table import text_table
from .common import detect_all, detector_galleries, evaluation_parser, finish, limited, load

_COLUMNS = {"name": "class", "objects": "objects", "detections": "detections", "ap": "AP", "ap50": "AP50"}


def main(argv: Sequence[str] | None = None) -> None:
    p = evaluation_parser(
        "jpegdeep eval coco", __doc__, "COCO_ROOT", "with annotations/instances_SET.json and SET/ or images/SET/"
    )
    p.add_argument("--set", dest="image_set", default="val2017", help="default: %(default)s")
    p.add_argument("--annotations", metavar="FILE", help="the JSON, where it is not annotations/instances_SET.json")
    p.add_argument("--score", type=float, default=0.01, help="of detections that count (default: %(default)s)")
    p.add_argument("--evaluator", help="hotcoco or pycocotools (default: the first that is installed)")
    p.add_argument("--submission", metavar="FILE.json", help="write the results in COCO's format")
    args = p.parse_args(argv)
    find_evaluator(args.evaluator)  # before hours of detecting
    detector = load(Detector, args, threshold=args.score)
    issues = DatasetIssues(args.lenient)
    data = read_coco(args.root, args.image_set, detector.class_names, issues, args.annotations)
    id_of = {image.name: image_id for image, image_id in zip(data.images, data.image_ids)}
    images, detections = detect_all(detector, limited(data.images, args.limit), issues)
    image_ids = [id_of[image.name] for image in images]
    results = coco_results(detections, image_ids, data.category_ids)
    result = evaluate_coco(
        data.annotation_file, results, data.category_ids, data.class_names, image_ids, args.evaluator
    )
    record = coco_record(result, [image.name for image in images], image_ids)
    table = [{title: row[key] for key, title in _COLUMNS.items()} for row in record[0]["classes"]]
    print(text_table(table))
    print(text_table([{"figure": key, "value": value} for key, value in result.figures.items()]))
    if args.submission:
        write_json(args.submission, results)
        print(args.submission)

    def page() -> dict[str, Any]:
        # The images show mistakes at an IoU of 0.5; COCO's boxes have no border pixel to add.
        matches = match_all(images, detections, len(data.class_names), border_px=0.0)
        plots = [bars(list(result.figures.items())), bars([(item.name, item.ap) for item in result.classes])]
        plots += [precision_recall_plot(f"{c.name}, IoU 0.5: {c.ap50:.4f}", *c.curve50()) for c in result.classes]
        return {
            "title": f"{detector.config.name} on {args.image_set} of {args.root}",
            "headline": [(key, result.figures[key]) for key in ("AP", "AP50", "AP75")],
            "table": table,
            "plots": plots,
            "galleries": detector_galleries(images, matches, data.class_names),
        }

    finish("eval.coco", args, detector, record, issues, page)
