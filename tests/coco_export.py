"""Annotated images as a COCO annotation file, for tests that need one."""

from jpegdeep_torch.data.coco import coco_annotations as export_coco

__all__ = ["export_coco"]
