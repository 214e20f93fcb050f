"""What reaches Torch-TensorRT, recorded by a stand-in for the library."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import types
from pathlib import Path

import pytest
import torch

from jpegdeep_torch.backends import engines, get_backend, trt
from jpegdeep_torch.backends.base import PRECISIONS, example_inputs
from jpegdeep_torch.backends.engines import load_engine, save_engine, side_file
from jpegdeep_torch.errors import BackendUnavailable, CheckpointError, ModelError
from jpegdeep_torch.models import create_model, list_models
from tests.backends.conftest import small_detector


class Library(types.SimpleNamespace):
    """Records what it is called with; an 'engine' is the exported program run by PyTorch."""

    def __init__(self):
        super().__init__(__version__="2.14.0", compiled=[], saved=[], graphs=0)

        def compile(
            exported_program,
            inputs=None,
            *,
            arg_inputs=None,
            kwarg_inputs=None,
            device=None,
            disable_tf32=False,
            require_full_compilation=False,
            min_block_size=5,
            optimization_level=None,
            timing_cache_path="",
            **kwargs,
        ):
            assert not kwargs, "the real one drops these without a word"
            given = {k: v for k, v in locals().items() if k not in ("self", "kwargs")}
            self.compiled.append(types.SimpleNamespace(**given))
            return exported_program.module() if hasattr(exported_program, "module") else torch.nn.Identity()

        self.dynamo = types.SimpleNamespace(compile=compile)
        self.Input = lambda **shapes: types.SimpleNamespace(**shapes)
        self.Device = str
        self.runtime = types.SimpleNamespace(enable_cudagraphs=self._graphed)

    @contextlib.contextmanager
    def _graphed(self, engine):
        self.graphs += 1
        yield engine

    def save(self, module, file_path, *, output_format, arg_inputs, dynamic_shapes):
        self.saved.append((output_format, arg_inputs, dynamic_shapes))
        Path(file_path).write_bytes(b"engine")

    def load(self, file_path):
        assert Path(file_path).read_bytes() == b"engine"
        return types.SimpleNamespace(module=lambda: lambda *inputs: inputs)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    """The stand-in, on a machine that seems to have a GPU; networks stay on the CPU."""
    found = Library()
    monkeypatch.setattr(trt, "missing_parts", list)
    monkeypatch.setattr(trt, "require_device", lambda name, device: None)
    monkeypatch.setattr(trt, "import_torch_tensorrt", lambda: found)
    monkeypatch.setattr(trt, "on_device", lambda model, device, dtype: copy.deepcopy(model).to(dtype))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


@pytest.mark.parametrize("batch_sizes", [(1,), (1, 8), (8, 32, 128), (5,)])
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", list_models())
def test_arguments(name: str, precision: str, batch_sizes: tuple[int, ...], library: Library, monkeypatch):
    exports = []
    monkeypatch.setattr(trt, "export_program", lambda *arguments: exports.append(arguments))
    model = create_model(name, num_classes=3, width=1 / 64).eval()
    get_backend("trt").build(model, "cuda", precision, batch_sizes)
    (call,) = library.compiled
    ((exported, example_batch, largest),) = exports
    assert {p.dtype for p in exported.parameters()} == {PRECISIONS[precision]}  # strongly typed: the network says it
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert call.require_full_compilation is True and call.min_block_size == 1 and call.disable_tf32 is True
    assert call.device == "cuda:0" and call.inputs is None and call.kwarg_inputs is None
    assert Path(call.timing_cache_path).parent.is_dir()
    shapes = model.config.input_shapes().values()
    assert len(call.arg_inputs) == len(shapes)
    for given, shape in zip(call.arg_inputs, shapes):
        assert given.dtype == PRECISIONS[precision]
        assert given.min_shape == (min(batch_sizes), *shape)
        assert given.opt_shape == given.max_shape == (max(2, *batch_sizes), *shape)
        # Torch-TensorRT takes the best size from the export's example, and an example of 1 becomes a constant.
        assert given.opt_shape[0] == example_batch >= 2 and given.max_shape[0] == largest


@pytest.mark.parametrize("name, precision", [("ssd300_vgg16_dct", "float16"), ("vgg16_dct_deconv", "float32")])
def test_the_exported_program_has_one_batch(name: str, precision: str, library: Library):
    get_backend("trt").build(create_model(name, width=1 / 16, seed=0).eval(), "cuda", precision, (1, 6))
    program = library.compiled[0].exported_program
    (symbol,) = program.range_constraints  # one, shared by all inputs
    assert program.range_constraints[symbol].upper == 6
    batches = {
        n.meta["val"].shape[0].node.hint for n in program.graph.nodes if n.name in program.graph_signature.user_inputs
    }
    assert batches == {6}


def test_the_norm_stays_in_float32_in_a_half_network(library: Library):
    get_backend("trt").build(small_detector(), "cuda", "float16", (1, 2))
    operators = [n for n in library.compiled[0].exported_program.graph.nodes if n.op == "call_function"]
    (norm,) = (n for n in operators if "rsqrt" in str(n.target))
    assert norm.meta["val"].dtype == torch.float32


def test_keywords_that_the_library_would_drop_are_refused(library: Library):
    build, model = get_backend("trt").build, small_detector()
    for wrong in ("enabled_precisions", "use_explicit_typing", "optimisation_level"):
        with pytest.raises(ModelError, match=f"2.14.0 does not know {wrong}; it knows .*optimization_level"):
            build(model, "cuda", settings={wrong: 1})
    with pytest.raises(ModelError, match="arg_inputs cannot be set"):
        build(model, "cuda", settings={"arg_inputs": []})
    assert not library.compiled


def test_a_library_that_lost_a_keyword(library: Library):
    library.dynamo.compile = lambda exported_program, *, arg_inputs, device, min_block_size, **kwargs: None
    with pytest.raises(BackendUnavailable, match="no longer knows require_full_compilation"):
        get_backend("trt").build(small_detector(), "cuda")


def test_an_older_library_is_told_to_type_strongly(library: Library):
    newer = library.dynamo.compile

    def older(exported_program, *, use_explicit_typing=False, enabled_precisions=(), arg_inputs, device,
              require_full_compilation, min_block_size, **kwargs):  # fmt: skip
        library.explicit = use_explicit_typing, enabled_precisions
        return newer(exported_program, arg_inputs=arg_inputs)

    library.dynamo.compile = older
    get_backend("trt").build(small_detector(), "cuda", "float16")
    assert library.explicit == (True, ())
    with pytest.raises(ModelError, match="enabled_precisions cannot be set"):
        get_backend("trt").build(small_detector(), "cuda", settings={"enabled_precisions": {torch.half}})


def test_settings_reach_the_compiler(library: Library):
    settings = {"optimization_level": 5, "disable_tf32": False}
    get_backend("trt").build(small_detector(), "cuda", settings=settings)
    assert (library.compiled[0].optimization_level, library.compiled[0].disable_tf32) == (5, False)


def test_the_engine_gets_converted_padded_batches(library: Library):
    seen = []

    def engine(x):
        seen.append(x)
        return x, x

    runner = trt.engine_runner(library, engine, torch.device("cpu"), "float16", (1, 8))
    coefficients = torch.randint(-2048, 2049, (11, 64, 4, 4), dtype=torch.int16)
    for count, buckets in ((1, [1]), (3, [4]), (8, [8]), (11, [8, 4])):
        seen.clear()
        outputs, _ = runner(coefficients[:count])
        assert [len(x) for x in seen] == buckets
        assert all(x.dtype == torch.float16 and x.is_contiguous() for x in seen)
        assert torch.equal(outputs.to(torch.int16), coefficients[:count])  # exact up to 2048
    assert library.graphs == 5
    assert trt.buckets((8, 32, 128)) == (8, 16, 32, 64, 128) and trt.buckets((1,)) == (1, 2)


def test_without_cuda_graphs(library: Library):
    del library.runtime.enable_cudagraphs
    assert trt.engine_function(library, lambda x: (x,))(torch.ones(1)) == (1,)
    assert library.graphs == 0


def test_what_is_missing_is_said_in_one_line(capfd: pytest.CaptureFixture[str]):
    missing = trt.missing_parts()
    if not missing:
        pytest.skip("TensorRT can run here")
    with pytest.raises(BackendUnavailable) as error:
        get_backend("trt").build(small_detector(), "cuda")
    assert all(part in str(error.value) for part in missing) and "pip install" in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [Exception, RuntimeError, ImportError])
def test_an_import_that_fails_and_prints(kind, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def broken(name: str):
        print("import error when try to import ...")
        raise kind("Could not find libnvinfer.so.11\n  Search paths: []")

    monkeypatch.setattr(trt.importlib, "import_module", broken)
    with pytest.raises(BackendUnavailable, match=r"libnvinfer\.so\.11 Search paths"):
        trt.import_torch_tensorrt()
    assert capfd.readouterr() == ("", "")


def test_int8_needs_modelopt_and_data(library: Library, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ModelError, match="calibration"):
        get_backend("trt").build(small_detector(), "cuda", "int8")
    monkeypatch.setattr(trt, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match="nvidia-modelopt"):
        get_backend("trt").build(small_detector(), "cuda", "int8", calibration=[])


def test_int8_is_calibrated_before_the_export(library: Library, monkeypatch: pytest.MonkeyPatch):
    steps = []

    def quantize(model, config, forward_loop):
        steps.append(config)
        forward_loop(model)

    @contextlib.contextmanager
    def export_torch_mode():
        steps.append("export mode")
        yield
        steps.append(len(library.compiled))

    modelopt = types.SimpleNamespace(quantize=quantize, INT8_DEFAULT_CFG="int8", export_torch_mode=export_torch_mode)
    monkeypatch.setattr(trt, "_modelopt", lambda name: modelopt)
    model = small_detector()
    get_backend("trt").build(model, "cuda", "int8", (1, 2), calibration=[example_inputs(model, 1)])
    assert steps == ["int8", "export mode", 1]
    assert library.compiled[0].arg_inputs[0].dtype == torch.float32


@pytest.fixture
def engine_file(library: Library, monkeypatch: pytest.MonkeyPatch, weights_file, tmp_path: Path) -> Path:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(
        engines, "example_inputs", lambda model, count, device, dtype: example_inputs(model, count, "cpu", dtype)
    )
    monkeypatch.setattr(
        engines, "trt_versions", lambda: {"torch": "2.14", "torch_tensorrt": "2.14", "tensorrt": "11.1"}
    )
    weights, model = weights_file
    path = tmp_path / "detector.ep"
    save_engine(model, path, "trt", precision="float16", batch_sizes=(1, 4), weights=weights)
    return path


def test_an_engine_file(engine_file: Path, library: Library, weights_file):
    ((output_format, arg_inputs, dynamic_shapes),) = library.saved
    assert output_format == "exported_program"
    assert [(x.shape[0], x.dtype) for x in arg_inputs] == [(4, torch.float16)] * 2
    assert len({id(shape[0]) for shape in dynamic_shapes}) == 1  # one Dim
    side = json.loads(side_file(engine_file).read_text())
    assert side["gpu"] == "Some GPU" and side["versions"]["tensorrt"] == "11.1"
    runner = load_engine(engine_file, weights=weights_file[0])
    assert (runner.precision, runner.batch_sizes, runner.device.type) == ("float16", (1, 4), "cuda")
    assert runner.description.model == "ssd300_vgg16_dct"


def test_an_engine_of_another_machine_is_stale(engine_file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Other GPU")
    monkeypatch.setattr(
        engines, "trt_versions", lambda: {"torch": "2.15", "torch_tensorrt": "2.14", "tensorrt": "11.1"}
    )
    with pytest.raises(CheckpointError) as error:
        load_engine(engine_file)
    assert "stale: built for torch 2.14 (here 2.15), GPU Some GPU (here Other GPU)" in str(error.value)


def test_an_engine_without_its_description(engine_file: Path):
    description = engines.EngineDescription.from_json(side_file(engine_file).read_text(), engine_file)
    side_file(engine_file).write_text(dataclasses.replace(description, data_sha256="0").to_json())
    with pytest.raises(CheckpointError, match="belongs to another file"):
        load_engine(engine_file)
    side_file(engine_file).unlink()
    with pytest.raises(CheckpointError, match="not an engine file"):
        load_engine(engine_file)
