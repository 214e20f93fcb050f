"""The torchvision detector that speeds are compared with."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from eval.peers import TorchvisionPeer, make_timed_peer
from jpegdeep_torch.errors import JpegError, ModelError


def jpeg(seed: int, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((200, 150)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("network", ["ssd300_vgg16", "ssdlite320_mobilenet_v3_large"])
def test_the_peer_detects_about_as_much_as_a_trained_one(network):
    sample = [jpeg(0)]
    peer = TorchvisionPeer(sample, network=network)
    assert peer.name == f"torchvision {network}"
    (found,) = peer(sample)
    assert set(found) == {"boxes", "scores", "labels"}
    assert 0 < len(found["scores"]) <= 300
    assert found["boxes"].min() >= 0 and found["boxes"][:, 2].max() <= 200 and found["boxes"][:, 3].max() <= 150
    scores = peer.network(peer.prepared(sample))["cls_logits"].softmax(-1)[..., 1:]
    assert 300 < int((scores > 0.01).sum()) < 500
    with pytest.raises(JpegError, match="torchvision cannot decode"):
        peer([sample[0][:100]])


def test_unknown_peer():
    for name in ("detectron", "keras", "keras="):
        with pytest.raises(ModelError, match=f"unknown peer '{name}': expected torchvision .*keras=FILE"):
            make_timed_peer(name, [b""])
    with pytest.raises(ModelError, match="at least one JPEG"):
        make_timed_peer("torchvision", [])
