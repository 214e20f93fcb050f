"""Weights in half precision with a model card, and the names by which they are had."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from jpegdeep_torch import list_weights, read_info
from jpegdeep_torch.cli.models import main
from jpegdeep_torch.errors import CheckpointError, ModelError
from jpegdeep_torch.models import create_model
from jpegdeep_torch.pretrained import table
from jpegdeep_torch.training.initialization import check_init, initialize
from jpegdeep_torch.weights import CARD_FIELDS, load_model, save_half, save_weights

CARD = {field: f"what stands under {field}" for field in CARD_FIELDS}


@pytest.fixture
def model():
    """A network whose statistics exceed half precision, as the variance of a luma's mean does."""
    model = create_model("ssd300_mobilenet_v2_dct_small", 3, width=1 / 8, seed=0).eval()
    model.stem.luma_norm.running_var.fill_(250_000.0)
    return model


@pytest.fixture
def half(model, tmp_path):
    save_weights(model, tmp_path / "full.safetensors", class_names=("a", "b", "c"))
    save_half(tmp_path / "full.safetensors", tmp_path / "half.safetensors", CARD)
    return tmp_path / "half.safetensors"


def test_half_precision_is_read_as_float32(model, half):
    info = read_info(half)
    assert info.card == CARD and info.class_names == ("a", "b", "c")
    assert half.stat().st_size < 0.75 * half.with_name("full.safetensors").stat().st_size
    stored, again = load_file(half), load_model(half).state_dict()
    for key, value in model.state_dict().items():
        if value.ndim > 1:
            assert stored[key].dtype == torch.float16
            assert torch.equal(again[key], value.half().float()), key
        elif "num_batches" not in key:
            assert torch.equal(again[key], value), key
    assert all(p.dtype == torch.float32 for p in load_model(half).parameters())


def test_what_cannot_be_saved(model, half, tmp_path):
    with pytest.raises(CheckpointError, match="its card lacks, or has but should not: author, limits"):
        save_half(half, tmp_path / "b", {key: text for key, text in CARD.items() if key != "limits"} | {"author": ""})
    with torch.no_grad():
        model.stem.entry.weight[0, 0, 0, 0] = 1e5
    save_weights(model, tmp_path / "large")
    with pytest.raises(CheckpointError, match=r"large: not all finite in half precision: stem.entry.weight"):
        save_half(tmp_path / "large", tmp_path / "b", CARD)
    assert not (tmp_path / "b").exists()


def test_names(half, monkeypatch, capsys):
    """By name: listed, with its card, to read and to start training from; a file of that name goes first."""
    monkeypatch.setattr(table, "FILES", half.parent)
    row = table.shipped(
        "cells", "ssd300_mobilenet_v2_dct_small", "half.safetensors", source="ours", licence="MIT", sha256="0" * 64
    )
    for module in ("jpegdeep_torch.pretrained.table", "jpegdeep_torch.cli.models",
                   "jpegdeep_torch.training.initialization"):  # fmt: skip
        monkeypatch.setattr(f"{module}.WEIGHTS", (*table.WEIGHTS, row))
    assert "cells" in list_weights() and list_weights("cell?") == ["cells"]
    assert read_info("cells") == read_info(half)
    main([])
    assert "cells" in capsys.readouterr().out
    main(["cells"])
    shown = capsys.readouterr().out
    assert "MIT" in shown and "a, b, c" in shown
    assert all(text in shown for key, text in CARD.items() if key != "licence")
    main(["ssd300_mobilenet_v2_dct_small"])
    assert "luma (64, 38, 38)" in capsys.readouterr().out
    with pytest.raises(ModelError, match="nothing: neither weights"):
        main(["nothing"])

    target = create_model("ssd300_mobilenet_v2_dct_small", 5, width=1 / 8, seed=1)
    check_init("cells", target.config.name, 5, 1 / 8)
    said = initialize(target, "cells")
    assert "class_heads.0.pointwise" in said.partition("fresh: ")[2] and "stem" not in said.partition("fresh: ")[2]
    assert torch.equal(target.stem.entry.weight, load_model(half).stem.entry.weight)

    monkeypatch.chdir(half.parent)
    half.with_name("full.safetensors").rename("cells")
    assert read_info("cells").card is None
