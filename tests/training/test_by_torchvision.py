"""The SSD recipe on pixels by torchvision's transforms: boxes follow what is seen, and the seed tells all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from jpegdeep_torch.cli.train import main as training
from jpegdeep_torch.data.voc import read_voc
from jpegdeep_torch.errors import ConfigError, ModelError
from jpegdeep_torch.models import model_config
from jpegdeep_torch.presets import get_preset
from jpegdeep_torch.training.augmentation import (
    AugmentationConfig,
    augment_classification,
    augment_detection,
    draw_detection_geometry,
)
from jpegdeep_torch.training.run_folder import read_log
from jpegdeep_torch.training.samples import DetectionSamples
from tests.training.make_dataset import CLASSES, make_voc
from tests.training.runs import write_config

GEOMETRY = AugmentationConfig(
    pixels="torchvision", brightness_probability=0, contrast_probability=0, saturation_probability=0, hue_probability=0,
    expand_fill_rgb=(0.0, 0.0, 0.0),
)  # fmt: skip
RECIPE = AugmentationConfig(pixels="torchvision")


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Two rectangles, a red and a green one, on black, and their boxes."""
    pixels, boxes = np.zeros((240, 320, 3), np.uint8), np.array([[30, 50, 110, 130], [180, 90, 300, 200]], np.float64)
    for channel, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
        pixels[y0:y1, x0:x1, channel] = 255
    return pixels, boxes


def test_boxes_follow_the_pixels():
    pixels, boxes = scene()
    kept_of, smallest = 0, 1.0
    for seed in range(60):
        image, mapped, kept = augment_detection(pixels, boxes, GEOMETRY, 300, np.random.default_rng(seed))
        assert image.shape == (300, 300, 3) and mapped.dtype == np.float64
        for channel in np.flatnonzero(kept):
            rows, columns = np.nonzero(image[..., channel] > 127)
            seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert np.abs(seen - 300 * mapped[channel]).max() <= 1.5
            smallest = min(smallest, (mapped[channel, 2:] - mapped[channel, :2]).min())
        kept_of += int(kept.sum())
    assert 60 < kept_of < 120 and smallest < 0.15  # crops leave some out, wide canvases make some small


def test_everything_is_drawn_from_the_seed_and_nothing_else():
    pixels, boxes = scene()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    results = [augment_detection(pixels, boxes, RECIPE, 300, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    assert all(np.array_equal(a, b) for a, b in zip(results[0], results[1]))
    assert not np.array_equal(results[0][0], results[2][0])
    one, other = (augment_classification(pixels, RECIPE, 224, np.random.default_rng(seed)) for seed in (1, 2))
    assert one.shape == (224, 224, 3) and not np.array_equal(one, other)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 3)])
def test_extreme_pictures_and_pictures_without_objects(size):
    pixels = np.full((*size, 3), 128, np.uint8)
    for seed in range(10):
        image, mapped, kept = augment_detection(pixels, np.empty((0, 4)), RECIPE, 300, np.random.default_rng(seed))
        assert image.shape == (300, 300, 3) and mapped.shape == (0, 4) and kept.shape == (0,)
        boxes = np.array([[0, 0, size[1], size[0]]], np.float64)
        _, mapped, _ = augment_detection(pixels, boxes, RECIPE, 300, np.random.default_rng(seed))
        assert ((mapped >= 0) & (mapped <= 1)).all()


@pytest.mark.slow
def test_training_by_it(tmp_path):
    root = make_voc(tmp_path / "voc", count=4)
    config = write_config(tmp_path, root)
    for coefficients in ("pixels", "reencode"):
        changes = ["--set", f"data.coefficients={coefficients}", "augmentation.pixels=torchvision", "run.epochs=1"]
        training([str(config), "-o", str(tmp_path / coefficients), *changes])
        assert read_log(tmp_path / coefficients, "evaluation")
    with pytest.raises(ConfigError, match=r"augmentation\.pixels: 'torchvision' changes no coefficients"):
        training([str(config), "-o", str(tmp_path / "dct"), "--set", "augmentation.pixels=torchvision"])
    images, model = read_voc(root, "train", CLASSES), model_config("ssd300_vgg16_dct")
    with pytest.raises(ModelError, match="changes coefficients"):
        DetectionSamples(images, model, get_preset("voc"), coefficients="native", augmentation=RECIPE)


@pytest.mark.slow
def test_both_libraries_draw_alike():
    """Where objects come to lie is spread the same by OpenCV's draws and by torchvision's: means of 300 images."""
    pixels, boxes = scene()
    sides = {"torchvision": [], "opencv": []}
    for seed in range(300):
        _, mapped, kept = augment_detection(pixels, boxes, GEOMETRY, 300, np.random.default_rng(seed))
        sides["torchvision"].append(np.where(kept[:, None], mapped[:, 2:] - mapped[:, :2], 0))
        own = dataclasses.replace(GEOMETRY, pixels="opencv")
        geometry = draw_detection_geometry(own, np.random.default_rng(seed), pixels.shape[:2], 300, boxes)
        mapped, kept = geometry.map_boxes(boxes, 1.0)
        sides["opencv"].append(np.where(kept[:, None], mapped[:, 2:] - mapped[:, :2], 0))
    ours, theirs = (np.mean(sides[name], axis=0) for name in ("opencv", "torchvision"))
    error = np.std(sides["opencv"], axis=0) / 300**0.5
    assert (np.abs(ours - theirs) < 5 * error).all()
