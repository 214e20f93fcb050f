"""A converted checkpoint of real size on every float32 backend: the stored outputs of Keras, equal detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jpegdeep_torch.backends import compare
from jpegdeep_torch.detection import detect, ssd300_anchors
from jpegdeep_torch.keras import convert_keras
from jpegdeep_torch.weights import load_model
from tests.backends.test_runners import built

NAME = "ssd300_vgg16_dct"


def test_outputs_and_detections(shared: Path, unpacked, tmp_path: Path):
    weights = tmp_path / "weights.safetensors"
    convert_keras(unpacked(NAME), weights)
    model = load_model(weights)
    weights.unlink()
    with np.load(shared / "reference" / "golden" / f"{NAME}.npz") as golden:
        inputs = [torch.from_numpy(golden[f"input_{i}"]).permute(0, 3, 1, 2) for i in range(2)]
        stored = {name: torch.from_numpy(golden[name]) for name in ("conf", "loc")}
    anchors = ssd300_anchors(model.config.anchor_scales)
    with torch.no_grad():
        expected = detect(*model(*(x.float() for x in inputs)), anchors)[0]
    ran = []
    for backend in ("onnxruntime", "openvino"):
        try:
            runner = built(backend, model, batch_sizes=(1,))
        except pytest.skip.Exception:
            continue
        logits, offsets = runner(*inputs)
        assert (logits.softmax(-1) - stored["conf"]).abs().max() < 1e-3
        assert (offsets - stored["loc"]).abs().max() < 1e-3
        assert compare(runner, model, inputs).ok
        found = detect(logits, offsets, anchors)[0]
        assert torch.equal(found["labels"], expected["labels"])
        torch.testing.assert_close(found["scores"], expected["scores"], atol=1e-4, rtol=0)
        torch.testing.assert_close(found["boxes"], expected["boxes"], atol=1e-4, rtol=0)
        ran.append(backend)
    if not ran:
        pytest.skip("neither onnxruntime nor openvino is installed")
