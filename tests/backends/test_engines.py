"""Engine files: loaded without the network's code, and refused with a reason."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from jpegdeep_torch.backends import compare, engines
from jpegdeep_torch.backends.base import example_inputs
from jpegdeep_torch.backends.engines import EngineDescription, load_engine, save_engine
from jpegdeep_torch.cli import export as torch_to_engine
from jpegdeep_torch.detection import NMSConfig, detect, ssd300_anchors
from jpegdeep_torch.errors import BackendUnavailable, CheckpointError, ModelError
from jpegdeep_torch.models import create_model
from jpegdeep_torch.weights import save_weights
from tests.backends.conftest import WIDTH, batches

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {  # programs that know nothing of this project: file, inputs (npz) -> first output's shape
    "onnx": (
        "import sys, numpy as np, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1])\n"
        "results = session.run(None, dict(np.load(sys.argv[2])))\n"
    ),
    "openvino": (
        "import sys, numpy as np, openvino\n"
        "compiled = openvino.Core().compile_model(sys.argv[1], 'CPU')\n"
        "answer = compiled(dict(np.load(sys.argv[2])))\n"
        "results = [answer[port] for port in compiled.outputs]\n"
    ),
}
SAVE = "np.savez(sys.argv[3], *results)\nassert not any(name.startswith('jpegdeep') for name in sys.modules)\n"


def importable(backend: str) -> None:
    for library in {"onnx": ("onnxscript", "onnxruntime"), "openvino": ("openvino",)}[backend]:
        pytest.importorskip(library, reason=f"{library} is not installed")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, weights_file):
    """files(backend) -> an engine file, built once."""
    folder, made = tmp_path_factory.mktemp("engines"), {}
    weights, model = weights_file

    def get(backend: str) -> Path:
        importable(backend)
        if backend not in made:
            made[backend] = folder / f"engine{engines.ENGINE_BACKENDS[backend]}"
            save_engine(model, made[backend], backend, weights=weights)
        return made[backend]

    return get


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_new_process_needs_only_the_library(backend: str, files, weights_file, tmp_path: Path):
    path, (_, model) = files(backend), weights_file
    inputs = example_inputs(model, 3)
    np.savez(tmp_path / "in.npz", **{n: x.numpy() for n, x in zip(model.config.input_shapes(), inputs)})
    command = [sys.executable, "-I", "-c", PLAIN[backend] + SAVE, str(path), "in.npz", "out.npz"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with np.load(tmp_path / "out.npz") as results, torch.no_grad():
        for got, expected in zip((results["arr_0"], results["arr_1"]), model(*inputs)):
            np.testing.assert_allclose(got, expected.numpy(), atol=1e-3)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_file_says_what_it_is(backend: str, files, weights_file):
    weights, model = weights_file
    runner = load_engine(files(backend), weights=weights)
    assert compare(runner, model, example_inputs(model, 2)).ok
    found = runner.description
    assert (found.backend, found.model, found.num_classes, found.preset) == (backend, "ssd300_vgg16_dct", 20, "voc")
    assert found.anchor_scales == model.config.anchor_scales
    assert found.inputs == model.config.input_shapes()
    assert found.weights_sha256 is not None and found.versions["torch"] == torch.__version__


def test_boxes_of_the_onnx_file_are_ours(weights_file, tmp_path: Path):
    importable("onnx")
    _, model = weights_file
    save_engine(model, tmp_path / "nms.onnx", "onnx", nms=NMSConfig())
    runner = load_engine(tmp_path / "nms.onnx")
    inputs = example_inputs(model, 3)
    boxes, scores, labels, counts = runner(*inputs)
    with torch.no_grad():
        expected = detect(*model(*inputs), ssd300_anchors(model.config.anchor_scales))
    assert runner.description.nms == dataclasses.asdict(NMSConfig())
    for i, wanted in enumerate(expected):
        k = int(counts[i])
        assert k == len(wanted["scores"]) > 50
        torch.testing.assert_close(scores[i, :k], wanted["scores"], atol=1e-5, rtol=0)
        assert (labels[i, :k] == wanted["labels"]).float().mean() > 0.99  # equal scores may change places
        torch.testing.assert_close(
            boxes[i, :k].sort(dim=0).values, wanted["boxes"].sort(dim=0).values, atol=1e-4, rtol=0
        )
        assert not scores[i, k:].any() and not labels[i, k:].any() and not boxes[i, k:].any()


def test_few_detections_are_padded(weights_file, tmp_path: Path):
    importable("onnx")
    _, model = weights_file
    config = NMSConfig(score_threshold=0.999)
    save_engine(model, tmp_path / "none.onnx", "onnx", nms=config)
    boxes, scores, labels, counts = load_engine(tmp_path / "none.onnx")(*example_inputs(model, 2))
    assert counts.tolist() == [0, 0] and boxes.shape == (2, 200, 4)
    assert not scores.any() and not labels.any()


@pytest.mark.slow
def test_int8_file_with_boxes(weights_file, tmp_path: Path):
    importable("onnx")
    _, model = weights_file
    calibration = batches(model, 2)
    path = tmp_path / "int8.onnx"
    save_engine(model, path, "onnx", precision="int8", calibration=calibration, nms=NMSConfig())
    runner = load_engine(path)
    assert runner.precision == "int8"
    assert int(runner(*calibration[0])[3]) > 0


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_an_engine_of_other_weights_is_stale(backend: str, files, tmp_path: Path):
    other = tmp_path / "other.safetensors"
    save_weights(create_model("ssd300_vgg16_dct", width=WIDTH, seed=1), other)
    with pytest.raises(CheckpointError, match=r"stale: built from detector\.safetensors"):
        load_engine(files(backend), weights=other)


def test_files_of_others_are_refused(files, weights_file, tmp_path: Path):
    path = files("onnx")
    import onnx

    foreign = onnx.load(path)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    (tmp_path / "text.onnx").write_text("no")
    wanted = {
        tmp_path / "foreign.onnx": "not an engine of jpegdeep_torch",
        tmp_path / "text.onnx": "ONNX Runtime cannot load it",
        tmp_path / "absent.onnx": "no such file",
        weights_file[0]: "not an engine file",
    }
    for file, message in wanted.items():
        with pytest.raises(CheckpointError, match=message):
            load_engine(file)


def test_openvino_with_the_weights_of_another_file(files, tmp_path: Path):
    path = shutil.copy(files("openvino"), tmp_path / "engine.xml")
    with pytest.raises(CheckpointError, match="not beside it"):
        load_engine(path)
    data = files("openvino").with_suffix(".bin").read_bytes()
    (tmp_path / "engine.bin").write_bytes(data[:-4] + b"\0\0\1\0")
    with pytest.raises(CheckpointError, match="belongs to another file"):
        load_engine(path)


def test_descriptions_of_other_formats():
    text = json.dumps({"format_version": 99})
    with pytest.raises(CheckpointError, match="engine format 99, this jpegdeep_torch reads 1"):
        EngineDescription.from_json(text, "x.onnx")
    with pytest.raises(CheckpointError, match="cannot be read"):
        EngineDescription.from_json("{}", "x.onnx")


def test_impossible_requests(weights_file, tmp_path: Path):
    _, model = weights_file
    wrong = [
        ({"backend": "tvm", "path": "x.tvm"}, "expected one of onnx, openvino, trt"),
        ({"backend": "onnx", "path": "x.onnx", "precision": "float16"}, "float32, int8"),
        ({"backend": "onnx", "path": "x.onnx", "precision": "int8"}, "calibrat"),
        ({"backend": "openvino", "path": "x.bin"}, "end in .xml"),
        ({"backend": "openvino", "path": "x.xml", "nms": NMSConfig()}, "only an ONNX file"),
    ]
    for arguments, message in wrong:
        path = tmp_path / arguments.pop("path")
        with pytest.raises(ModelError, match=message):
            save_engine(model, path, **arguments)
    with pytest.raises(CheckpointError, match="does not exist"):
        save_engine(model, tmp_path / "nowhere" / "x.onnx", "onnx")


def test_the_command(weights_file, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    importable("onnx")
    weights, model = weights_file
    torch_to_engine.main([str(weights), "--backend", "onnx", "-o", str(tmp_path / "out.onnx"), "--nms"])
    assert "with NMS" in capsys.readouterr().out
    assert len(load_engine(tmp_path / "out.onnx", weights=weights)(*example_inputs(model, 1))) == 4


def test_the_command_without_tensorrt(weights_file, tmp_path: Path):
    try:
        engines.trt.TensorRTBackend().require()
        pytest.skip("TensorRT can run here")
    except BackendUnavailable:
        pass
    command = [str(ROOT / "convert" / "torch_to_engine.py"), str(weights_file[0]), "--backend", "trt", "-o", "out.ep"]
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "backend trt needs" in done.stderr
