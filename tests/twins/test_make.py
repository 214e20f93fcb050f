"""Making a twin: what it learns, that it can be killed and gone on with, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from jpegdeep_torch import TwinConfig, create_model, load_model, make_twin
from jpegdeep_torch.errors import CheckpointError, DatasetError, ModelError, TrainingError
from jpegdeep_torch.models.stem_file import load_stem, save_stem
from jpegdeep_torch.twins.learning import Progress
from jpegdeep_torch.twins.pictures import Display
from tests.shapes import draw_scene

TINY = TwinConfig(steps=6, batch_size=2, size=32, seed=3)


class Killed(Exception):
    pass


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(30):
        draw_scene(seed)[0].save(folder / f"{seed:02d}.jpg", quality=90)
    return folder


def small_teacher() -> nn.Module:
    """Of stride 8, with a classifier's output."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)).eval()


def test_killed_and_gone_on_with_it_is_bitwise_the_same(pictures, tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, steps=9)
    monkeypatch.setattr("jpegdeep_torch.twins.learning._KEPT", 3)

    def make(name: str, stop: int = 0):
        seen = []

        def step(progress: Progress) -> None:
            seen.append(progress.step)

        def killing(lesson, files, config, state_file, **options):
            return teach(lesson, files, config, state_file, **options | {"log_steps": 1, "on_progress": limited})

        def limited(progress: Progress) -> None:
            step(progress)
            if progress.step == stop:
                raise Killed

        from jpegdeep_torch.twins import make as module
        from jpegdeep_torch.twins.learning import teach

        monkeypatch.setattr(module, "teach", killing)
        result = make_twin(small_teacher(), pictures, tmp_path / name, layer="2", config=config, size=64, save_steps=2)
        return result, seen

    whole, seen = make("whole.safetensors")
    assert seen == list(range(1, 10))
    with pytest.raises(Killed):
        make("killed.safetensors", stop=7)
    assert not (tmp_path / "killed.safetensors").exists()
    resumed, seen = make("killed.safetensors")
    assert seen == [7, 8, 9]
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    state, other = whole.twin.state_dict(), resumed.twin.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in state.items())
    assert list(tmp_path.glob("*.state")) == []


def test_the_file_and_the_proof(pictures, tmp_path):
    teacher = small_teacher()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    seen = []
    result = make_twin(
        teacher, [pictures], tmp_path / "stem.safetensors", layer="2", config=TINY, size=64, name="small",
        display=Display(say=seen.append),
    )  # fmt: skip
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert "27 pictures, 3 are held out" in seen[0]
    stem, info = load_stem(tmp_path / "stem.safetensors")
    assert (info.teacher, info.layer, info.stride, info.out_channels, info.rectified) == ("small", "2", 8, 8, True)
    luma, chroma = torch.randn(1, 64, 8, 8) * 50, torch.randn(1, 128, 4, 4) * 20
    with torch.no_grad():
        torch.testing.assert_close(result.twin(luma, chroma), teacher[3:](stem(luma, chroma)), rtol=1e-4, atol=1e-4)
    kept = result.twin.stem.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in stem.state_dict().items() if "num_batches" not in key)
    assert [a.quality for a in result.proof.agreements] == [None, 95, 75, 50]
    assert all(a.images == 3 and 0 <= a.top1 <= 1 and a.explained <= 1 for a in result.proof.agreements)
    assert len(result.proof.answers) == 3 and result.proof.twin_ms > 0


def test_a_stem_in_half_precision(tmp_path):
    """The variances of coefficients are beyond float16's largest number."""
    from jpegdeep_torch.models.stem_file import StemInfo

    info = StemInfo("small", "x", "y", 32, 8)
    stem = info.build().eval()
    stem.luma_norm.running_var.fill_(2e5)
    save_stem(stem, info, tmp_path / "half.safetensors", half=True)
    loaded, _ = load_stem(tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 400_000
    assert torch.equal(loaded.luma_norm.running_var, stem.luma_norm.running_var)
    torch.testing.assert_close(loaded.entry.weight, stem.entry.weight, rtol=1e-3, atol=1e-4)


def test_a_mobilenets_twin_is_a_network_of_the_table(pictures, tmp_path):
    teacher = create_model("mobilenet_v2", 7, width=0.25, seed=0).eval()
    config = dataclasses.replace(TINY, steps=2)
    result = make_twin(teacher, pictures, tmp_path / "twin.safetensors", config=config, size=64)
    twin = load_model(tmp_path / "twin.safetensors")
    assert twin.config.name == "mobilenet_v2_dct_small" and twin.info.coefficients == "native"
    own = teacher.state_dict()
    later = [key for key in twin.state_dict() if not key.startswith("stem.") and "num_batches" not in key]
    assert later and all(torch.equal(twin.state_dict()[key], own[key]) for key in later)
    luma, chroma = torch.randn(1, 64, 8, 8) * 50, torch.randn(1, 128, 4, 4) * 20
    with torch.no_grad():
        torch.testing.assert_close(twin(luma, chroma), result.twin(luma, chroma), rtol=1e-4, atol=1e-4)


def test_what_is_refused_in_one_line(pictures, tmp_path):
    teacher = small_teacher()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: no JPEG files in it"):
        make_twin(teacher, [pictures, tmp_path / "empty"], layer="2", config=TINY)
    (tmp_path / "bad").mkdir()
    for k in range(3):
        (tmp_path / "bad" / f"{k}.jpg").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"bad: 0 JPEGs that can be read, expected at least 10; .*0.jpg"):
        make_twin(teacher, tmp_path / "bad", layer="2", config=TINY)
    with pytest.raises(ModelError, match="Sequential: no layer to cut at was named"):
        make_twin(teacher, pictures, config=TINY)
    with pytest.raises(CheckpointError, match=r"the folder .* does not exist"):
        make_twin(teacher, pictures, tmp_path / "nowhere" / "x.safetensors", layer="2", config=TINY)
    seen = []
    make_twin(teacher, [pictures, tmp_path / "bad"], layer="2", config=TINY, size=64, display=Display(say=seen.append))
    assert seen[0].startswith("left out: 3 of 33 files cannot be read, the first: ")


def test_a_state_of_another_run_is_refused(pictures, tmp_path):
    state = tmp_path / "run.state"
    make_twin(small_teacher(), pictures, layer="2", config=TINY, size=64, state_file=state)
    other = dataclasses.replace(TINY, learning_rate=1e-3)
    with pytest.raises(TrainingError, match=r"run.state: is the state of a run with other settings \(learning_rate\)"):
        make_twin(small_teacher(), pictures, layer="2", config=other, size=64, state_file=state)
    state.write_bytes(b"damaged")
    with pytest.raises(TrainingError, match=r"run.state: cannot be read"):
        make_twin(small_teacher(), pictures, layer="2", config=TINY, size=64, state_file=state)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer2"), ("efficientnet_b0", "features.3")])
def test_any_networks_early_layers_can_be_learnt(pictures, name, layer):
    """In 600 steps, of networks with seeded weights, on small parts of a few pictures."""
    torch.manual_seed(0)
    teacher = getattr(torchvision.models, name)().eval()
    own = {key: value.clone() for key, value in teacher.state_dict().items()}
    config = TwinConfig(steps=600, batch_size=4, size=64, deeper_weight=0.0, final_weight=0.0)
    result = make_twin(teacher, pictures, layer=layer, config=config, size=96)
    print(name, result.proof.agreements)
    assert result.proof.agreements[0].explained > 0.4
    late = result.twin.late.state_dict()
    assert late and all(torch.equal(value, own[key]) for key, value in late.items())
