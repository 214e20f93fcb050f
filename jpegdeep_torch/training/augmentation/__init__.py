"""Random changes to training images, drawn once and carried out on pixels or on DCT coefficients."""

from .by_torchvision import augment_classification, augment_detection
from .config import AugmentationConfig
from .geometry import INTERPOLATIONS, Geometry, draw_classifier_geometry, draw_detection_geometry, plain_geometry
from .photometric import Photometric, draw_photometric
from .render import render_coefficients, render_pixels

__all__ = [
    "INTERPOLATIONS",
    "AugmentationConfig",
    "Geometry",
    "Photometric",
    "augment_classification",
    "augment_detection",
    "draw_classifier_geometry",
    "draw_detection_geometry",
    "draw_photometric",
    "plain_geometry",
    "render_coefficients",
    "render_pixels",
]
