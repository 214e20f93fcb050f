"""All networks: shapes, sizes, options, export."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jpegdeep_torch.errors import ModelError
from jpegdeep_torch.models import ANCHOR_SCALES, create_model, list_models, model_config
from jpegdeep_torch.models.layers import L2Normalization, SameConv2d, max_pool_2x2

# Not smaller: on an AMD Zen 5, oneDNN in PyTorch 2.15.0 ends the process in the backward pass of a 1x1 convolution of
# stride 2 from 8 channels, which ResNets of 1/32 have.
SMALL = 1 / 8


def inputs_of(model, batch: int = 1, size: int | None = None, dtype=torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, *s, generator=generator).to(dtype) * 20 for s in model.config.input_shapes(size).values()
    ]


def shapes(output) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in (output if isinstance(output, tuple) else (output,))]


@pytest.mark.parametrize("name", list_models())
def test_every_network(name):
    """Outputs' shapes, their batch, that they are finite and depend on every input and every weight."""
    model = create_model(name, 4, width=SMALL, seed=0)
    assert all(module.training for module in model.modules())  # as torchvision's and timm's
    model.eval()
    batch = inputs_of(model, 2)
    output = model(*batch)
    anchors = 24564 if name.startswith("ssd512") else 8732
    assert shapes(output) == ([(2, anchors, 5), (2, anchors, 4)] if name.startswith("ssd") else [(2, 4)])
    total = sum(x.square().mean() for x in (output if isinstance(output, tuple) else (output,)))
    for x in batch:
        x.requires_grad_()
    output = model(*batch)
    total = sum(x.square().mean() for x in (output if isinstance(output, tuple) else (output,)))
    assert total.isfinite()
    unused = [
        key
        for (key, _), gradient in zip(
            model.named_parameters(), torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
        )
        if gradient is None
    ]
    assert unused == []
    output = model(*batch)
    total = sum(x.square().mean() for x in (output if isinstance(output, tuple) else (output,)))
    assert all((g != 0).any() for g in torch.autograd.grad(total, batch))


@pytest.mark.slow
@pytest.mark.parametrize(  # all kinds of inputs, all families, all odd layers: exporting takes seconds
    "name",
    [
        *(
            "ssd300_vgg16",
            "ssd300_vgg16_dct",
            "ssd300_vgg16_dct_deconv",
            "ssd300_resnet50_lcrfa_y",
            "vgg16",
            "resnet50",
        ),
        *("ssd300_mobilenet_v2", "ssd300_mobilenet_v2_dct"),
    ],
)
def test_export_with_a_dynamic_batch(name):
    model = create_model(name, 2, width=SMALL, seed=0).eval()
    example = tuple(inputs_of(model, 2))
    batch = torch.export.Dim("batch", min=1, max=32)
    exported = torch.export.export(model, example, dynamic_shapes=tuple({0: batch} for _ in example)).module()
    for count in (1, 5):
        inputs = inputs_of(model, count)
        for a, b in zip(exported(*inputs), model(*inputs)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list_models("[!s]*"))
@pytest.mark.parametrize("size", [224, 256, 352])
def test_classifiers_take_any_size(name, size):
    model = create_model(name, 3, width=SMALL, seed=0).eval()
    if size != 224 and "dct" not in name and "rfa" not in name and size == 352:
        size = 300
    assert shapes(model(*inputs_of(model, 1, size))) == [(1, 3)]


def test_a_larger_image_is_the_mean_over_positions():
    """A dense layer slid over the feature map: an image twice as wide as its own copy gives the mean of its windows."""
    model = create_model("vgg16", 5, width=SMALL, seed=0).eval()
    image = inputs_of(model, 1, 256)[0]
    _, features = model.trunk(image)
    windows = [features[:, :, y : y + 7, x : x + 7] for y in (0, 1) for x in (0, 1)]
    answers = [model.predictions(F.relu(model.fc2(F.relu(model.fc1(w))))).flatten() for w in windows]
    torch.testing.assert_close(model(image)[0], torch.stack(answers).mean(dim=0), rtol=1e-4, atol=1e-4)


def test_names_and_patterns():
    assert len(list_models()) == 32
    assert list_models("ssd300_*_dct_?") == ["ssd300_mobilenet_v2_dct_y", "ssd300_vgg16_dct_y"]
    assert list_models("nothing*") == []
    assert list_models() == sorted(list_models())
    assert model_config("vgg16").name == "vgg16"


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("ssd512", {}, "unknown model 'ssd512'"),
        ("vgg16", {"num_classes": 0}, "num_classes is 0"),
        ("vgg16", {"num_classes": 2.5}, "num_classes is 2.5"),
        ("vgg16", {"num_classes": True}, "num_classes is True"),
        ("vgg16", {"width": 0}, "width is 0"),
        ("vgg16", {"width": float("nan")}, "width is nan"),
        ("vgg16", {"anchor_scales": "voc"}, "no anchor scales"),
        ("ssd300_vgg16", {"anchor_scales": "kitti"}, "unknown anchor scales 'kitti'"),
        ("ssd300_vgg16", {"anchor_scales": (1.0,)}, "7 positive numbers"),
        ("ssd300_vgg16", {"anchor_scales": (0.0,) * 7}, "7 positive numbers"),
    ],
)
def test_impossible_arguments(name, options, expected):
    with pytest.raises(ModelError, match=expected):
        create_model(name, **options)


def test_options():
    model = create_model("ssd300_vgg16_dct", 1, "coco", width=1 / 16, seed=3)
    assert (model.config.num_classes, model.config.anchor_scales) == (1, ANCHOR_SCALES["coco"])
    assert shapes(model(*inputs_of(model))) == [(1, 8732, 2), (1, 8732, 4)]
    assert model.trunk.fc6.weight.shape[0] == 64
    state = torch.random.get_rng_state()
    again, other = (create_model("ssd300_vgg16_dct", 1, width=1 / 16, seed=seed) for seed in (3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(model.trunk.fc6.weight, again.trunk.fc6.weight)
    assert not torch.equal(model.trunk.fc6.weight, other.trunk.fc6.weight)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("ssd300_vgg16", 26.3), ("vgg16", 138.4), ("resnet50", 25.6), ("mobilenet_v2", 3.5)],
)
def test_full_size_has_the_published_parameters(name, millions):
    with torch.device("meta"):
        model = create_model(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


# --- layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_l2_normalisation_of_large_half_activations(dtype):
    """512 squares of 200 are 20,480,000: infinite in half precision, were the sum taken there."""
    layer = L2Normalization(512).to(dtype)
    x = torch.full((1, 512, 2, 2), 200.0)
    x[:, ::2] *= -2
    x[:, :, 1, 1] = 0
    expected = 20 * x / x.square().sum(dim=1, keepdim=True).clamp(min=1e-12).sqrt()
    y = layer(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), expected, rtol=1e-2, atol=1e-3)
    assert (y[:, :, 1, 1] == 0).all()


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (75, 38), (1, 1)])
@pytest.mark.parametrize("round_up", [True, False])
def test_pooling_against_windows_by_hand(size, round_up):
    if not round_up and 1 in size:
        return
    x = torch.randn(2, 3, *size).relu()
    padded = np.full((2, 3, size[0] + 1, size[1] + 1), -np.inf, np.float32)
    padded[:, :, : size[0], : size[1]] = x
    rows, columns = ((side + 1) // 2 if round_up else side // 2 for side in size)
    expected = np.empty((2, 3, rows, columns), np.float32)
    for i in range(rows):
        for j in range(columns):
            expected[:, :, i, j] = padded[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max(axis=(2, 3))
    np.testing.assert_array_equal(max_pool_2x2(x, round_up).numpy(), expected)


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 1), (4, 1), (3, 6)])
def test_same_padding_against_sums_by_hand(kernel, dilation):
    """Keras pads (kernel - 1) * dilation zeros in all, the odd one right and below."""
    conv = SameConv2d(2, 3, kernel, dilation)
    x = torch.randn(1, 2, 6, 5)
    total = (kernel - 1) * dilation
    padded = F.pad(x, (total // 2, total - total // 2) * 2)
    expected = conv.bias.detach().view(1, 3, 1, 1).repeat(1, 1, 6, 5)
    for i in range(kernel):
        for j in range(kernel):
            window = padded[:, :, i * dilation : i * dilation + 6, j * dilation : j * dilation + 5]
            expected += torch.einsum("nchw,oc->nohw", window, conv.weight.detach()[:, :, i, j])
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_half_precision_stays_close():
    model = create_model("ssd300_vgg16_dct", 3, width=1 / 16, seed=0).eval()
    inputs = inputs_of(model)
    expected = model(*inputs)
    output = model.to(torch.bfloat16)(*(x.to(torch.bfloat16) for x in inputs))
    for a, b in zip(output, expected):
        assert (a.float() - b).abs().max() < 0.1 * b.abs().max()
