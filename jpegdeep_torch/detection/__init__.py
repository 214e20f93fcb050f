"""Anchors, box coding, NMS."""

from .anchors import anchor_boxes, decode_boxes, encode_boxes, ssd300_anchors
from .nms import NMSConfig, detect, suppress

__all__ = ["NMSConfig", "anchor_boxes", "decode_boxes", "detect", "encode_boxes", "ssd300_anchors", "suppress"]
