"""From an RGB network of the table to its DCT networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jpegdeep_torch import TwinConfig, create_model, load_model
from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.twins.transfer import taken_layers, transfer
from tests.shapes import draw_scene

CONFIG = TwinConfig(steps=3, batch_size=2, size=64, seed=1, final_weight=0.0)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(12):
        draw_scene(seed)[0].save(folder / f"{seed:02d}.jpg", quality=90)
    return folder


@pytest.mark.parametrize(
    ("teacher", "to", "shared"),
    [
        ("ssd300_vgg16", "ssd300_vgg16_dct", "trunk.fc6.weight"),
        ("ssd300_vgg16", "ssd300_vgg16_dct_y", "trunk.base.block5.block5_conv2.weight"),
        ("ssd300_resnet50", "ssd300_resnet50_lcrfa", "trunk.late.4b.branch2a.weight"),
        ("resnet50", "resnet50_deconv_rfa", "fc1000.weight"),
    ],
)
def test_later_layers_are_the_teachers_bitwise(pictures, tmp_path, teacher, to, shared):
    network = create_model(teacher, 3, width=0.0625, seed=0)
    result = transfer(network, to, pictures, tmp_path / "twin.safetensors", config=CONFIG)
    own, twin = network.state_dict(), load_model(tmp_path / "twin.safetensors")
    assert twin.config.name == to and twin.config.num_classes == 3 and twin.info.coefficients == "native"
    held = twin.state_dict()
    assert shared in result.taken and all(torch.equal(held[key], own[key]) for key in result.taken if key in held)
    heads = [key for key in own if key.startswith(("class_heads", "box_heads", "extras", "fc1000"))]
    assert heads and set(heads) <= set(result.taken)
    learnt = [key for key, p in result.network.named_parameters() if p.requires_grad]
    fresh = create_model(to, 3, width=0.0625, seed=CONFIG.seed).state_dict()
    assert any(not torch.equal(held[key], fresh[key]) for key in learnt)
    assert len(result.proof.explained) >= 1 and result.proof.images == 1


def test_the_chromas_channels_start_at_zero():
    teacher, student = (create_model(n, 3, width=0.125, seed=s) for n, s in (("vgg16", 0), ("vgg16_dct", 1)))
    taken_layers(student, teacher)
    weight = student.trunk.block5["block5_conv1_dct"].weight
    theirs = teacher.trunk.block5["block5_conv1"].weight
    assert torch.equal(weight[:, : theirs.shape[1]], theirs) and not weight[:, theirs.shape[1] :].any()


def test_networks_of_other_families_are_refused(pictures):
    teacher = create_model("vgg16", 3, width=0.0625, seed=0)
    for to in ("ssd300_vgg16_dct", "resnet50_lcrfa", "vgg16"):
        with pytest.raises(ModelError, match=f"from vgg16 to {to}: expected an RGB network"):
            transfer(teacher, to, pictures, config=CONFIG)
