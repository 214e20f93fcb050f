"""Every backend against eager float32, and what it says when it cannot run."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
import torch

from jpegdeep_torch.backends import TOLERANCES, base, compare, get_backend, list_backends
from jpegdeep_torch.backends.agreement import difference
from jpegdeep_torch.backends.base import example_inputs
from jpegdeep_torch.errors import BackendUnavailable, ModelError
from jpegdeep_torch.models import create_model
from tests.backends.conftest import WIDTH, batches, small_detector

LIBRARIES = {"onnxruntime": ("onnxruntime", "onnxscript"), "openvino": ("openvino",)}


def built(backend: str, model, **options):
    for library in LIBRARIES.get(backend, ()):
        pytest.importorskip(library, reason=f"{library} is not installed: backend {backend} cannot run")
    return get_backend(backend).build(model, **options)


@functools.cache
def small_runner(backend: str):
    return built(backend, small_detector(), batch_sizes=(1, 3))


@pytest.mark.parametrize(
    "name",
    [
        *("ssd300_vgg16", "ssd300_vgg16_dct_deconv", "ssd300_resnet50_lcrfa", "ssd512_vgg16_dct"),
        *("ssd300_mobilenet_v2", "ssd300_mobilenet_v2_dct_small"),
    ],
)
@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_float32_agrees_with_eager_for_any_batch(backend: str, name: str):
    model = small_detector(name)
    runner = built(backend, model, batch_sizes=(1, 3))
    for count in (1, 2, 5):
        inputs = example_inputs(model, count, seed=count)
        result = compare(runner, model, inputs)
        assert result.ok, f"{count} images: {result}"
        logits, offsets = runner(*inputs)
        anchors = 24564 if name.startswith("ssd512") else 8732
        assert logits.shape == (count, anchors, 21) and offsets.shape == (count, anchors, 4)


@pytest.mark.slow
def test_compile_agrees_with_eager_also_for_batches_it_was_not_built_for():
    model = small_detector()
    try:
        runner = built("compile", model, batch_sizes=(2,))
    except BackendUnavailable as error:
        pytest.skip(str(error))
    for count in (1, 2, 3):
        result = compare(runner, model, example_inputs(model, count))
        assert result.ok, f"{count} images: {result}"
    assert runner.build_seconds > 0
    with torch.inference_mode():  # must not compile again
        assert compare(runner, model, example_inputs(model, 2)).ok


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_integers_and_floats_give_the_same(backend: str):
    model = small_detector()
    runner = small_runner(backend)
    inputs = example_inputs(model, 2)
    for a, b in zip(runner(*inputs), runner(*(x.to(torch.int16) for x in inputs))):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_earlier_outputs_outlive_later_calls(backend: str):
    model = small_detector()
    runner = small_runner(backend)
    first = runner(*example_inputs(model, 1))
    kept = [y.clone() for y in first]
    runner(*example_inputs(model, 1, seed=1))
    for a, b in zip(first, kept):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_classifier_gives_its_logits(backend: str):
    model = create_model("vgg16_dct", num_classes=10, width=WIDTH, seed=0).eval()
    runner = built(backend, model)
    inputs = example_inputs(model, 2)
    assert compare(runner, model, inputs).ok
    assert runner(*inputs).shape == (2, 10)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_int8_is_near_eager_and_is_not_float32(backend: str):
    if backend == "openvino":
        pytest.importorskip("nncf", reason="nncf is not installed: OpenVINO cannot quantise")
    model = small_detector()
    runner = built(backend, model, precision="int8", calibration=batches(model))
    result = compare(runner, model, batches(model)[0])
    assert result.ok, str(result)
    assert result.largest > 1e-4
    with pytest.raises(ModelError, match="calibration"):
        built(backend, model, precision="int8")


def test_bfloat16_on_the_cpu():
    model = small_detector()
    runner = get_backend("torch").build(model, precision="bfloat16")
    inputs = example_inputs(model, 1)
    assert compare(runner, model, inputs).ok
    assert runner(*inputs)[0].dtype == runner.dtype == torch.bfloat16
    assert next(model.parameters()).dtype == torch.float32  # the caller's network is left as it was


def test_a_wrong_answer_is_not_ok():
    model = small_detector()
    logits, offsets = (y.detach() for y in model(*example_inputs(model, 1)))
    tolerance = TOLERANCES["float32"]
    assert difference((logits, offsets), (logits, offsets), tolerance).ok
    assert not difference((logits.roll(1, dims=1), offsets), (logits, offsets), tolerance).ok
    assert not difference((logits, offsets + 0.01 * offsets.abs().max()), (logits, offsets), tolerance).ok
    assert not difference((logits, torch.full_like(offsets, torch.nan)), (logits, offsets), tolerance).ok


@pytest.mark.parametrize("backend", list_backends())
def test_impossible_arguments_say_what_is_possible(backend: str):
    model, it = small_detector(), get_backend(backend)
    device = it.info.devices[0]
    with pytest.raises(ModelError, match="unknown options speed"):
        it.build(model, device, speed=11)
    with pytest.raises(ModelError, match="batch sizes"):
        it.build(model, device, batch_sizes=(0,))
    with pytest.raises(ModelError, match="unknown precision"):
        it.build(model, device, precision="float8")
    with pytest.raises(ModelError, match="training mode"):
        it.build(create_model("ssd300_vgg16_dct", width=WIDTH), device)


def test_unknown_backend():
    with pytest.raises(ModelError, match="expected one of torch, compile, onnxruntime, openvino, trt"):
        get_backend("tvm")


@pytest.mark.parametrize(
    "backend, package, extra",
    [
        ("onnxruntime", "onnxruntime", "onnx"),
        ("onnxruntime", "onnxscript", "onnx"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, backend: str, package: str, extra: str):
    it, present = get_backend(backend), base.find_spec
    monkeypatch.setattr(base, "find_spec", lambda name: None if name == package else present("torch"))
    with pytest.raises(BackendUnavailable, match="pip install"):
        it.require()
    with pytest.raises(ImportError, match=rf"{package}: pip install 'jpegdeep-torch\[{extra}\]'$"):
        it.require()


def test_importing_the_package_imports_no_library_behind_a_backend():
    code = (
        "import sys, jpegdeep_torch, jpegdeep_torch.backends, jpegdeep_torch.inference.detector\n"
        "for name in jpegdeep_torch.backends.list_backends(): jpegdeep_torch.backends.get_backend(name)\n"
        "heavy = {'torch_tensorrt', 'tensorrt', 'onnx', 'onnxscript', 'onnxruntime', 'openvino', 'nncf', 'modelopt'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bfloat16_on_openvino_is_refused_where_the_processor_lacks_it(monkeypatch):
    pytest.importorskip("openvino")
    from jpegdeep_torch.backends import ov

    model = small_detector("ssd300_mobilenet_v2_dct_small")
    if ov.has_bfloat16():
        runner = built("openvino", model, batch_sizes=(2,), precision="bfloat16")
        assert compare(runner, model, example_inputs(model, 2)).ok
    monkeypatch.setattr(ov, "has_bfloat16", lambda: False)
    with pytest.raises(BackendUnavailable, match="bfloat16 needs a processor"):
        built("openvino", model, batch_sizes=(2,), precision="bfloat16")
