"""Matching and loss against the Keras originals, a plain re-statement in NumPy, and cases by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jpegdeep_torch.data.annotations import AnnotatedImage
from jpegdeep_torch.data.classes import VOC_CLASSES
from jpegdeep_torch.data.loader import batch_loader
from jpegdeep_torch.detection.anchors import decode_boxes, encode_boxes, ssd300_anchors, to_corners
from jpegdeep_torch.detection.loss import LossConfig, multibox_loss
from jpegdeep_torch.detection.matcher import Targets, match_anchors
from jpegdeep_torch.models import ANCHOR_SCALES, model_config
from jpegdeep_torch.training.augmentation import AugmentationConfig
from jpegdeep_torch.training.config import DataSettings, ImageSet, ModelSettings, TrainingConfig
from jpegdeep_torch.training.datasets import TrainingData
from jpegdeep_torch.training.samples import ReturningErrors
from jpegdeep_torch.training.tasks import DetectionTask
from tests.jpeg_samples import jpeg

ANCHORS = ssd300_anchors(ANCHOR_SCALES["voc"], dtype=torch.float64)


def padded(objects: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of class, xmin, ymin, xmax, ymax in 300 px -> boxes (N, M, 4) and labels (N, M)."""
    most = max(map(len, objects))
    boxes, labels = torch.zeros(len(objects), most, 4, dtype=torch.float64), torch.zeros(len(objects), most).long()
    for i, rows in enumerate(objects):
        boxes[i, : len(rows)] = torch.from_numpy(rows[:, 1:] / 300)
        labels[i, : len(rows)] = torch.from_numpy(rows[:, 0]).long()
    return boxes, labels


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "reference" / "golden" / "ssd_targets_and_loss.npz") as held:
        return dict(held)


@pytest.fixture(scope="module")
def targets(golden) -> Targets:
    return match_anchors(*padded([golden[f"labels_{i}"] for i in range(4)]), ANCHORS)


def test_the_reference_s_targets(golden, targets):
    np.testing.assert_array_equal(targets.labels, golden["target_class"])
    offsets = targets.offsets[targets.labels > 0]
    np.testing.assert_allclose(offsets, golden["target_offsets_positive"], atol=1e-6)
    assert not targets.offsets[targets.labels <= 0].any()


def annotated(folder: Path, rows: np.ndarray, size_px: int, number: int) -> AnnotatedImage:
    """A photograph of `size_px` with the golden file's boxes, as read from an annotation."""
    path = folder / f"{number}.jpg"
    path.write_bytes(jpeg(np.full((size_px, size_px, 3), 90, np.uint8)))
    boxes = rows[:, 1:].astype(np.float64) * size_px / 300
    labels = rows[:, 0].astype(np.int64)
    return AnnotatedImage(path.stem, path, size_px, size_px, boxes, labels, np.zeros(len(labels), bool))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("size_px", [300, 600])
def test_the_reference_s_targets_as_training_comes_to_them(golden, tmp_path, size_px, workers):
    """Annotations -> samples -> a worker's batch -> the task: in float32 anywhere on the way, anchors differ."""
    images = [annotated(tmp_path, golden[f"labels_{i}"], size_px, i) for i in range(4)]
    data = DataSettings(kind="voc", train=(ImageSet(str(tmp_path)),))
    config = TrainingConfig(ModelSettings("ssd300_vgg16_dct"), data, augmentation=AugmentationConfig.none())
    network = model_config("ssd300_vgg16_dct")
    task = DetectionTask(config, TrainingData(images, None, VOC_CLASSES), network, torch.device("cpu"))
    keys = [[(i, 0) for i in range(4)]]
    (batch,) = batch_loader(ReturningErrors(task.training_samples()), keys, workers, torch.device("cpu"))
    found = task.targets(batch)
    np.testing.assert_array_equal(found.labels, golden["target_class"])
    np.testing.assert_allclose(found.offsets[found.labels > 0], golden["target_offsets_positive"], atol=1e-6)


def test_the_reference_s_loss(golden, targets):
    logits, offsets = torch.from_numpy(golden["logits"]), torch.from_numpy(golden["loc"])
    loss = multibox_loss(logits, offsets, targets, ANCHORS.float())
    per_image = (loss.class_per_image + loss.box_per_image) * 4  # Keras's is already times the batch
    np.testing.assert_allclose(per_image, golden["loss_per_image"], rtol=1e-5)
    assert loss.total.item() == pytest.approx(golden["loss_per_image"].mean(), rel=1e-5)


def matched_by_hand(boxes: np.ndarray, labels: np.ndarray, anchors: np.ndarray, positive: float, negative: float):
    """One image, as section 2.2 of the SSD paper says it: pair by pair."""
    low = np.maximum(boxes[:, None, :2], anchors[:, :2])
    high = np.minimum(boxes[:, None, 2:], anchors[:, 2:])
    inter = (high - low).clip(0).prod(-1)
    iou = inter / ((boxes[:, 2:] - boxes[:, :2]).prod(-1)[:, None] + (anchors[:, 2:] - anchors[:, :2]).prod(-1) - inter)
    result, open_pairs = np.zeros(len(anchors), int), iou.copy()
    taken = set()
    while open_pairs.max() > 0:
        o, a = np.unravel_index(open_pairs.argmax(), iou.shape)
        result[a] = labels[o]
        open_pairs[o], open_pairs[:, a] = 0, 0
        taken.add(a)
    for a in set(range(len(anchors))) - taken:
        o = iou[:, a].argmax()
        if iou[o, a] >= positive:
            result[a] = labels[o]
        elif iou[o, a] >= negative:
            result[a] = -1
    return result


@pytest.mark.parametrize("negative", [0.5, 0.3])
@pytest.mark.parametrize("count", [1, 7, 30])
def test_random_boxes_match_as_the_paper_says(count, negative):
    generator = torch.Generator().manual_seed(count)
    anchors = ANCHORS[::13]
    centre, size = (torch.rand(3, count, 2, generator=generator).double() for _ in range(2))
    boxes = torch.cat((centre - size / 4 - 0.01, centre + size / 4 + 0.01), dim=-1).clamp(0, 1)
    labels = torch.randint(1, 5, (3, count), generator=generator)
    labels[1, count // 2 :] = 0  # an image with fewer objects, one of them perhaps none
    found = match_anchors(boxes, labels, anchors, 0.5, negative).labels.numpy()
    for image in range(3):
        real = labels[image] > 0
        expected = np.zeros(len(anchors), int)
        if real.any():
            corners = to_corners(anchors).numpy()
            expected = matched_by_hand(boxes[image][real].numpy(), labels[image][real].numpy(), corners, 0.5, negative)
        np.testing.assert_array_equal(found[image], expected)


def test_two_objects_in_one_place_take_two_anchors():
    box = torch.tensor([[[0.3, 0.3, 0.6, 0.6], [0.3, 0.3, 0.6, 0.6]]])
    few = ANCHORS[(ANCHORS[:, 2] > 0.05)][::97]
    found = match_anchors(box, torch.tensor([[1, 2]]), few, positive_iou=1.0).labels
    assert sorted(found[found > 0].tolist()) == [1, 2]


def test_an_image_without_objects_is_all_background():
    found = match_anchors(torch.zeros(2, 1, 4), torch.zeros(2, 1, dtype=torch.int64), ANCHORS)
    assert not found.labels.any() and not found.offsets.any()
    logits = torch.zeros(2, 8732, 3, requires_grad=True)
    loss = multibox_loss(logits, torch.zeros(2, 8732, 4, requires_grad=True), found, ANCHORS.float())
    loss.total.backward()
    assert loss.total.item() == 0 and not logits.grad.any()


def one_positive(count: int = 10) -> Targets:
    labels = torch.zeros(1, count, dtype=torch.int64)
    labels[0, 3] = 2
    return Targets(labels, torch.zeros(1, count, 4))


def test_the_hardest_negatives_count_three_to_one():
    logits = torch.zeros(1, 10, 3)
    logits[0, :, 1] = torch.arange(10.0)  # the loss of calling an anchor background grows along them
    offsets = torch.zeros(1, 10, 4)
    offsets[0, 3] = torch.tensor([0.5, 2.0, 0.0, -1.0])
    loss = multibox_loss(logits, offsets, one_positive(), ANCHORS[:10].float())
    rows = -torch.log_softmax(logits[0], dim=-1)
    assert loss.class_per_image.item() == pytest.approx((rows[3, 2] + rows[7:, 0].sum()).item())
    assert loss.box_per_image.item() == pytest.approx(0.5 * 0.5**2 + (2 - 0.5) + 0.5)  # smooth L1


def test_ignored_anchors_count_neither_way():
    logits, offsets = torch.randn(1, 10, 3), torch.randn(1, 10, 4)
    targets = one_positive()
    targets.labels[0, 5:] = -1
    loss = multibox_loss(logits, offsets, targets, ANCHORS[:10].float(), LossConfig(negatives_per_positive=100))
    rows = -torch.log_softmax(logits[0], dim=-1)
    expected = rows[[0, 1, 2, 4], 0].sum() + rows[3, 2]
    assert loss.class_per_image.item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_loss_by_its_formula():
    logits = torch.randn(1, 10, 3)
    loss = multibox_loss(
        logits, torch.zeros(1, 10, 4), one_positive(), ANCHORS[:10].float(), LossConfig(class_loss="focal")
    )
    p = logits[0].softmax(dim=-1)[torch.arange(10), one_positive().labels[0]]
    assert loss.class_per_image.item() == pytest.approx((-((1 - p) ** 2) * p.log()).sum().item(), rel=1e-5)


def test_giou_loss_of_a_box_beside_its_object():
    anchors = torch.tensor([[0.5, 0.5, 0.2, 0.2]]).repeat(10, 1)
    targets = one_positive()
    targets.offsets[0, 3] = encode_boxes(torch.tensor([0.1, 0.1, 0.3, 0.3]), anchors[3])
    offsets = torch.zeros(1, 10, 4)
    offsets[0, 3] = encode_boxes(torch.tensor([0.3, 0.1, 0.5, 0.3]), anchors[3])  # touches it: IoU 0, no gap
    config = LossConfig(box_loss="giou", box_weight=3)
    loss = multibox_loss(torch.zeros(1, 10, 3), offsets, targets, anchors, config)
    assert loss.box_per_image.item() == pytest.approx(3.0, rel=1e-4)
    apart = encode_boxes(torch.tensor([0.5, 0.1, 0.7, 0.3]), anchors[3])  # a gap of a third of the hull
    offsets[0, 3] = apart
    loss = multibox_loss(torch.zeros(1, 10, 3), offsets, targets, anchors, config)
    assert loss.box_per_image.item() == pytest.approx(3 * (1 + 1 / 3), rel=1e-4)


@pytest.mark.parametrize("size", [30.0, 600.0, 1e30, -1e30])
def test_giou_loss_of_exploding_sizes_is_finite(size):
    offsets = torch.zeros(1, 10, 4)
    offsets[0, 3, 2:] = size
    offsets.requires_grad_()
    config = LossConfig(box_loss="giou")
    loss = multibox_loss(torch.zeros(1, 10, 3), offsets, one_positive(), ANCHORS[:10].float(), config)
    loss.total.backward()
    assert 0 < loss.box_per_image.item() <= 2 and torch.isfinite(offsets.grad).all()


def test_encoding_is_decoding_s_inverse():
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0]])
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, ANCHORS[:2].float()), ANCHORS[:2].float()), boxes)
