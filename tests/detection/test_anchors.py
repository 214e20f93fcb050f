"""Anchors and box coding, against numbers worked out by hand and against Keras's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from jpegdeep_torch.detection import decode_boxes, encode_boxes, ssd300_anchors
from jpegdeep_torch.models import ANCHOR_SCALES
from tests.keras.samples import DATA, rows

VOC = ANCHOR_SCALES["voc"]


def test_anchors_worked_out_by_hand():
    """SSD paper, section 2.2, with the original implementation's steps."""
    anchors = ssd300_anchors(VOC)
    assert anchors.shape == (8732, 4) and anchors.dtype == torch.float32
    middle = math.sqrt(0.1 * 0.2)
    wide, tall = 0.1 * math.sqrt(2), 0.1 / math.sqrt(2)
    first = [(4 / 300, 4 / 300, w, h) for w, h in ((0.1, 0.1), (middle, middle), (wide, tall), (tall, wide))]
    torch.testing.assert_close(anchors[:4], torch.tensor(first), rtol=0, atol=1e-7)
    assert anchors[4, 0] == pytest.approx(12 / 300)  # columns run faster than rows
    assert anchors[4 * 38, 1] == pytest.approx(12 / 300)
    third = 0.2 * math.sqrt(3)  # the second map, at row 2 and column 5: six boxes
    at = 38 * 38 * 4 + (2 * 19 + 5) * 6
    torch.testing.assert_close(
        anchors[at + 4], torch.tensor([88 / 300, 40 / 300, third, 0.2 / math.sqrt(3)]), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        anchors[-4:-2],
        torch.tensor([[0.5, 0.5, 0.88, 0.88], [0.5, 0.5, *[math.sqrt(0.88 * 1.05)] * 2]]),
        rtol=0,
        atol=1e-6,
    )


def test_anchors_are_keras():
    with np.load(DATA / "ssd300_vgg16.npz") as stored:
        np.testing.assert_allclose(ssd300_anchors(VOC)[rows()].numpy(), stored["anchors"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssd300_resnet50_lcrfa", "ssd_keras_ssd300"])
def test_anchors_are_the_references(name, shared):
    with np.load(shared / "reference" / "golden" / f"{name}.npz") as stored:
        np.testing.assert_allclose(ssd300_anchors(VOC).numpy(), stored["anchors"], rtol=0, atol=1e-6)


def test_coding_by_hand():
    """cx = 0.1 l0 w_a + cx_a, w = exp(0.2 l2) w_a."""
    anchor = torch.tensor([0.5, 0.4, 0.2, 0.1])
    box = decode_boxes(torch.tensor([1.0, -2.0, 5 * math.log(2), 0.0]), anchor)
    torch.testing.assert_close(box, torch.tensor([0.52 - 0.2, 0.38 - 0.05, 0.52 + 0.2, 0.38 + 0.05]))


def test_coding_there_and_back():
    anchors = ssd300_anchors(VOC)
    offsets = torch.randn(2, 8732, 4, generator=torch.Generator().manual_seed(0)) * 3
    torch.testing.assert_close(encode_boxes(decode_boxes(offsets, anchors), anchors), offsets, rtol=0, atol=2e-3)
    torch.testing.assert_close(
        encode_boxes(decode_boxes(torch.zeros(8732, 4), anchors), anchors), torch.zeros(8732, 4), rtol=0, atol=1e-4
    )
