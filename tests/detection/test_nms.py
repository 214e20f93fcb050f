"""Softmax, threshold and NMS, against a naive implementation that follows TensorFlow's documentation box by box."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jpegdeep_torch.detection import NMSConfig, detect, ssd300_anchors, suppress
from jpegdeep_torch.detection.anchors import decode_boxes
from jpegdeep_torch.models import ANCHOR_SCALES

ANCHORS = ssd300_anchors(ANCHOR_SCALES["voc"])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """0 for boxes without area, as TensorFlow's."""
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    if min(areas) <= 0:
        return 0.0
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    overlap = max(width, 0) * max(height, 0)
    return overlap / (sum(areas) - overlap)


def naive(logits: torch.Tensor, boxes: np.ndarray, config: NMSConfig) -> list[tuple[int, int]]:
    """(label, anchor) of the detections of one image, best first; ties in order of anchor and class."""
    scores = logits.double().softmax(dim=-1).float().numpy()
    found = []
    for label in range(1, scores.shape[1]):
        order = sorted(range(len(boxes)), key=lambda i: -scores[i, label])
        kept: list[int] = []
        for i in order:
            if scores[i, label] <= config.score_threshold or len(kept) == config.max_per_class:
                break
            if all(iou(boxes[i], boxes[j]) <= config.iou_threshold for j in kept):
                kept.append(i)
        found += [(-float(scores[i, label]), i, label) for i in kept]
    return [(label, i) for _, i, label in sorted(found)[: config.max_total]]


def case(seed: int, anchors: int, classes: int, bias: float, spread: float = 1.0):
    """Seeded logits and offsets over the first `anchors` of a shuffled set of anchors."""
    generator = torch.Generator().manual_seed(seed)
    chosen = ANCHORS[torch.randperm(8732, generator=generator)[:anchors]]
    logits = torch.randn(2, anchors, classes + 1, generator=generator) * 2
    logits[:, :, 0] += bias
    return logits, torch.randn(2, anchors, 4, generator=generator) * spread, chosen


@pytest.mark.parametrize(
    ("anchors", "classes", "bias", "options"),
    [
        (60, 3, 0.0, {}),
        (300, 5, 2.0, {}),
        (350, 3, -1.0, {}),  # more candidates than the first prefix
        (300, 2, 0.0, {"max_per_class": 4}),
        (300, 4, 0.0, {"max_total": 7}),
        (300, 4, 0.0, {"max_per_class": 3, "max_total": 5}),
        (200, 1, 0.0, {"iou_threshold": 0.0}),
        (200, 1, 0.0, {"iou_threshold": 1.0}),
        (200, 3, 9.0, {"score_threshold": 0.5}),
        (900, 3, -2.0, {"iou_threshold": 0.01}),  # nearly all suppressed: the prefix must grow
    ],
)
def test_against_the_naive_implementation(anchors, classes, bias, options):
    config = NMSConfig(**options)
    logits, offsets, chosen = case(anchors + classes, anchors, classes, bias)
    found = detect(logits, offsets, chosen, config=config, clip=False)
    for i in range(2):
        boxes = decode_boxes(offsets[i], chosen)
        expected = naive(logits[i], boxes.numpy(), config)
        assert found[i]["labels"].tolist() == [label for label, _ in expected]
        torch.testing.assert_close(found[i]["boxes"], boxes[[at for _, at in expected]])
        assert (found[i]["scores"].diff() <= 0).all()
        assert found[i]["boxes"].dtype == found[i]["scores"].dtype == torch.float32
        assert found[i]["labels"].dtype == torch.int64


def test_all_on_one_spot():
    """8732 boxes in one place: one detection a class, found though every prefix but the last comes short."""
    logits = torch.zeros(1, 8732, 3)
    logits[0, :, 1] = torch.linspace(1, 2, 8732)
    anchors = torch.tensor([[0.5, 0.5, 0.2, 0.2]]).repeat(8732, 1)
    (found,) = detect(logits, torch.zeros(1, 8732, 4), anchors)
    assert found["labels"].tolist() == [1, 2]
    torch.testing.assert_close(found["boxes"], torch.tensor([[0.4, 0.4, 0.6, 0.6]] * 2))


def test_the_prefix_grows_for_one_image_only():
    """An image whose best 3000 boxes hide one another beside an ordinary one: neither changes the other's answer."""
    logits, offsets, _ = case(5, 4000, 2, 3.0)
    anchors = ANCHORS[:4000]
    logits[1] = 0
    logits[1, :3000, 1] = 5 + torch.linspace(1, 0, 3000)
    crowd = torch.tensor([0.5, 0.5, 0.2, 0.2])
    offsets[1, :3000] = torch.cat(
        ((crowd[:2] - anchors[:3000, :2]) / anchors[:3000, 2:] / 0.1, (crowd[2:] / anchors[:3000, 2:]).log() / 0.2),
        dim=1,
    )
    together = detect(logits, offsets, anchors, clip=False)
    for i in range(2):
        (alone,) = detect(logits[i : i + 1], offsets[i : i + 1], anchors, clip=False)
        for key in alone:
            assert torch.equal(alone[key], together[i][key])
    assert together[1]["labels"][0] == 1 and len(together[1]["labels"]) == 200


def test_equal_scores_keep_the_order_of_anchors():
    anchors = torch.tensor([[0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1], [0.8, 0.8, 0.1, 0.1], [0.2, 0.2, 0.1, 0.1]])
    (found,) = detect(torch.zeros(1, 4, 2), torch.zeros(1, 4, 4), anchors)
    torch.testing.assert_close(found["boxes"][:, 0], torch.tensor([0.15, 0.45, 0.75]))


def test_degenerate_boxes_suppress_nothing():
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.4, 0.4, 0.6, 0.6], [0.4, 0.4, 0.6, 0.6]]])
    labels = torch.zeros(1, 4, dtype=torch.long)
    assert suppress(boxes, labels, 0.45).tolist() == [[True, True, True, False]]
    assert suppress(boxes, torch.tensor([[0, 0, 0, 1]]), 0.45).tolist() == [[True] * 4]
    assert suppress(boxes, torch.tensor([[0, 0, -1, 0]]), 0.45).tolist() == [[True, True, False, True]]


def test_a_suppressed_box_suppresses_nothing():
    """A hides B, and B would hide C: C stays."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [3.0, 0, 13, 10], [6.0, 0, 16, 10]]])
    assert suppress(boxes, torch.zeros(1, 3, dtype=torch.long), 0.45).tolist() == [[True, False, True]]


def test_long_and_short_lists_agree():
    """Past a length, suppression takes another way."""
    _, offsets, _ = case(2, 3000, 1, 0.0)
    boxes = decode_boxes(offsets[:1], ANCHORS[:3000])
    labels = (torch.arange(3000) % 3)[None]
    kept = suppress(boxes, labels, 0.45)
    for label in range(3):
        at = (labels[0] == label).nonzero().squeeze(1)
        short = suppress(boxes[:, at], labels[:, at], 0.45)
        assert torch.equal(kept[:, at], short)
    assert 0 < kept.sum() < 3000


def test_empty():
    logits, offsets, chosen = case(0, 50, 3, 0.0)
    for found in detect(logits, offsets, chosen, config=NMSConfig(score_threshold=1.0)):
        assert [tuple(found[key].shape) for key in ("boxes", "scores", "labels")] == [(0, 4), (0,), (0,)]
    assert detect(logits[:0], offsets[:0], chosen) == []


def test_pixels_and_clipping():
    logits = torch.tensor([[[0.0, 5.0]]])
    anchor = torch.tensor([[0.9, 0.1, 0.4, 0.4]])
    offsets = torch.zeros(1, 1, 4)
    (clipped,) = detect(logits, offsets, anchor, [(100, 200)])
    torch.testing.assert_close(clipped["boxes"], torch.tensor([[140.0, 0.0, 200.0, 30.0]]))
    (whole,) = detect(logits, offsets, anchor, torch.tensor([[100, 200]]), clip=False)
    torch.testing.assert_close(whole["boxes"], torch.tensor([[140.0, -10.0, 220.0, 30.0]]))
    with pytest.raises(ValueError, match="expected \\(1, 2\\)"):
        detect(logits, offsets, anchor, [(1, 2), (3, 4)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_outputs(dtype):
    logits, offsets, chosen = case(7, 200, 3, 1.0)
    found = detect(logits.to(dtype), offsets.to(dtype), chosen)
    again = detect(logits.to(dtype).float(), offsets.to(dtype).float(), chosen)
    for a, b in zip(found, again):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_references_detections(shared):
    """From Keras's own outputs, not ours: what remains is NMS alone."""
    with np.load(shared / "reference" / "golden" / "ssd300_vgg16_dct.npz") as stored:
        conf, loc, expected = (torch.from_numpy(stored[key]) for key in ("conf", "loc", "detections"))
    (found,) = detect(conf.log(), loc, ANCHORS, [(300, 300)], clip=False)
    assert found["labels"].tolist() == expected[0, :, 0].tolist()
    torch.testing.assert_close(found["scores"], expected[0, :, 1], rtol=0, atol=1e-6)
    torch.testing.assert_close(found["boxes"], expected[0, :, 2:], rtol=0, atol=1e-2)
