"""Annotated images as a COCO annotation file, for tests that need one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jpegdeep_torch.data.annotations import AnnotatedImage


def export_coco(images: Sequence[AnnotatedImage], class_names: Sequence[str]) -> dict[str, Any]:
    """COCO's object annotations; image ids count from 1, category id = label.

    COCO has no 'difficult': ignored objects become crowds, which count neither way either.
    """
    entries, annotations = [], []
    for image_id, image in enumerate(images, start=1):
        entries.append(
            {"id": image_id, "file_name": image.path.name, "height": image.height_px, "width": image.width_px}
        )
        for box, label, ignore in zip(image.boxes.tolist(), image.labels.tolist(), image.ignore.tolist()):
            width, height = box[2] - box[0], box[3] - box[1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label,
                    "bbox": [box[0], box[1], width, height],
                    "area": width * height,
                    "iscrowd": int(ignore),
                }
            )
    categories = [{"id": label, "name": name} for label, name in enumerate(class_names, start=1)]
    return {"info": {}, "images": entries, "annotations": annotations, "categories": categories}
