"""Two processes against one, where rounding cannot hide a difference; and what they share of a batch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jpegdeep_torch.training.run_folder import read_log
from tests.jpeg_samples import jpeg, picture
from tests.training.make_dataset import make_voc
from tests.training.runs import ENVIRONMENT, ROOT, train, write_config

DETECTOR = """
[model]
name = "ssd300_vgg16_dct"
width = 0.03
[data]
kind = "voc"
train = [{{ root = "{root}", set = "train" }}]
workers = 0
[optimizer]
learning_rate = 0.001
base_batch_size = 4
momentum = 0.9
[schedule]
kind = "constant"
[run]
epochs = 1
steps_per_epoch = 20
threads = 1
log_steps = 1
"""
CLASSIFIER = DETECTOR.replace('"ssd300_vgg16_dct"', '"vgg16_dct"').replace('"voc"', '"imagenet"\npreset = "imagenet"')


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return make_voc(tmp_path_factory.mktemp("voc") / "voc")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    for i in range(8):
        folder = root / "train" / f"class {i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.jpg").write_bytes(jpeg(picture(240, 320, seed=i)))
    return root


def run(config: Path, output: Path, *changes: str, **options) -> tuple[list[float], dict, str]:
    """(losses, final weights, what was said) of a run; options: of `runs.command`."""
    done = train(config, output, "--set", *changes, **options)
    assert done.returncode == 0, done.stderr
    weights = load_file(output / "last.safetensors")
    return [row["loss"] for row in read_log(output, "step")], weights, done.stdout + done.stderr


# A real rate.  The network on pixels learns nothing at it without scaling and clipping.  A ResNet amplifies the last
# bit by 1e6 in 10 steps, and by 1e9 in 20.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "steps", "changes"),
    [
        ("ssd300_vgg16_dct", 20, []),
        ("ssd300_vgg16", 10, ["data.coefficients=pixels", "model.scale_to_data=true", "optimizer.clip_norm=5.0"]),
        ("ssd300_resnet50_lcrfa", 10, []),
    ],
)
def test_in_float64_two_processes_are_one_with_twice_the_batch(photographs, tmp_path, model, steps, changes):
    config = write_config(tmp_path, photographs, DETECTOR)
    compare(config, tmp_path, f"model.name={model}", f"run.steps_per_epoch={steps}", *changes)


@pytest.mark.slow
def test_dropout_is_drawn_for_the_batch_of_all(folders, tmp_path):
    compare(write_config(tmp_path, folders, CLASSIFIER), tmp_path, "model.width=0.06", "optimizer.learning_rate=0.01")


@pytest.mark.slow
def test_what_one_process_cannot_read_all_go_on_without(photographs, tmp_path):
    """Of a large set, whose headers alone are looked at before: another picture is read, and it is said once."""
    root = Path(shutil.copytree(photographs, tmp_path / "damaged"))
    path = root / "JPEGImages" / "image_5.jpg"
    path.write_bytes(path.read_bytes()[:2000] + b"\xff\xd9")
    config = write_config(tmp_path, root, DETECTOR)
    changes = "data.lenient=true", f"data.evaluate=[{{root='{root.as_posix()}', set='test'}}]", "run.steps_per_epoch=10"
    for said in compare(config, tmp_path, *changes, module="tests.training.headers_alone"):
        (line,) = [line for line in said.splitlines() if "left out: " in line]
        assert str(path) in line and "another picture is read in its place" in line
        assert "1 pictures could not be read" in said and "mAP" in said


def compare(config: Path, folder: Path, *changes: str, module: str = "tests.training.in_float64") -> list[str]:
    """Holds one process against two with half the batch -> what the two runs said."""
    found = []
    for processes, size in ((1, 4), (2, 2)):
        output = folder / f"run_{processes}"
        found.append(run(config, output, *changes, f"run.batch_size={size}", processes=processes, module=module))
    (losses, weights, said), (shared_losses, shared_weights, shared_said) = found
    assert len(losses) >= 10 and abs(losses[-1] / losses[0] - 1) > 1e-3
    assert shared_losses == pytest.approx(losses, rel=1e-7)
    for key, value in weights.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(shared_weights[key], value, rtol=1e-6, atol=1e-9)
    return [said, shared_said]


SUM = """
import sys, torch, torch.distributed as dist
from jpegdeep_torch.training.synchronized import differentiable_sum
dist.init_process_group("gloo")
rank = dist.get_rank()
x = torch.tensor([1.0, 2.0], requires_grad=True)
y = differentiable_sum((rank + 1) * x)  # of both: 3 x
(y.square() * (rank + 1)).sum().backward()  # of both: 3 * 9 x^2; d/dx of this process's share: (rank + 1) * 3 * 6 x
sys.stdout.write(f"{rank} {y.tolist()} {x.grad.tolist()}\\n")  # in one piece: both processes have the same pipe
sys.stdout.flush()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_the_sum_s_gradient_counts_every_process_s_loss(tmp_path):
    (tmp_path / "sum.py").write_text(SUM)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::FutureWarning"}
    done = subprocess.run(
        [*line, str(tmp_path / "sum.py")], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["0 [3.0, 6.0] [18.0, 36.0]", "1 [3.0, 6.0] [36.0, 72.0]"]


@pytest.mark.slow
def test_nothing_warns_of_what_pytorch_will_remove(photographs, tmp_path):
    config = write_config(tmp_path, photographs, DETECTOR)
    changes = ["model.name=ssd300_resnet50_lcrfa", "run.batch_size=2", "run.steps_per_epoch=2"]
    losses, _, said = run(config, tmp_path / "run", *changes, processes=2)
    assert len(losses) == 2 and np.isfinite(losses).all()
    assert "FutureWarning" not in said and "deprecated" not in said
