"""Engine files: made once, loaded without the network's Python code, and telling what they are.

    ONNX      FILE.onnx, with a description in its metadata
    OpenVINO  FILE.xml and FILE.bin, with a description in the runtime information of FILE.xml
    TensorRT  FILE.ep (an ExportedProgram around the engine), with a description in FILE.ep.json

The description is one JSON object (`EngineDescription`, in description.py).
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..detection import NMSConfig, anchor_boxes
from ..errors import BackendUnavailable, CheckpointError, ModelError
from ..models import Network
from ..utils.files import sha256_of, written_whole
from . import trt
from .base import PRECISIONS as DTYPES
from .base import Runner, check_calibration, example_inputs, on_device, require_packages
from .description import KEY, EngineDescription, check_weights, describe_engine
from .export import batch_shapes
from .onnx_export import quantize_onnx, quietly, to_onnx
from .onnx_nms import add_nms
from .ort import OnnxRuntimeBackend, open_session, session_function
from .ov import OpenVinoBackend, compile_openvino, compiled_function, to_openvino

ENGINE_BACKENDS = {"onnx": ".onnx", "openvino": ".xml", "trt": ".ep"}  # name on the command line -> suffix
_Loaded = tuple[Runner, EngineDescription]
PRECISIONS = {
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "int8"),
    "trt": ("float32", "float16", "bfloat16", "int8"),
}


def save_engine(
    model: Network,
    path: str | os.PathLike[str],
    backend: str,
    *,
    precision: str = "float32",
    batch_sizes: Sequence[int] = (1, 8),
    nms: NMSConfig | None = None,
    calibration: Iterable[Sequence[Tensor]] | None = None,
    weights: str | os.PathLike[str] | None = None,
    settings: dict[str, Any] | None = None,
) -> EngineDescription:
    """Builds `model` for `backend` ('onnx', 'openvino' or 'trt') and writes it to `path`.

    `nms` puts decoding and NMS into an ONNX file; `calibration`, batches of inputs, is for int8; `settings` go to
    Torch-TensorRT.  Raises ModelError, BackendUnavailable, CheckpointError (the file cannot be written).
    """
    path = Path(path)
    if backend not in ENGINE_BACKENDS:
        raise ModelError(f"unknown engine {backend!r}: expected one of {', '.join(ENGINE_BACKENDS)}")
    if precision not in PRECISIONS[backend]:
        raise ModelError(f"{backend} engines have {', '.join(PRECISIONS[backend])}, not {precision}")
    if backend == "openvino" and path.suffix != ".xml":
        raise ModelError(f"{path}: OpenVINO's files end in .xml (the weights go to a .bin beside it)")
    if nms is not None and backend != "onnx":
        raise ModelError(f"only an ONNX file can hold the NMS, not one of {backend}")
    if nms is not None and model.config.task != "detector":
        raise ModelError(f"{model.config.name}: a classifier has no boxes for NMS")
    if not path.parent.is_dir():
        raise CheckpointError(f"{path}: the folder {path.parent} does not exist")
    if precision == "int8":
        check_calibration(backend, calibration)
    description = describe_engine(model, backend, precision, batch_sizes, weights)
    if nms is not None:
        nms = dataclasses.replace(nms, cut_first=nms.cut_first or model.config.box_rules.cut_before_nms)
        description = dataclasses.replace(description, nms=dataclasses.asdict(nms))
    writer = {"onnx": _save_onnx, "openvino": _save_openvino, "trt": _save_trt}[backend]
    return writer(model, path, description, nms=nms, calibration=calibration, settings=settings)


def load_engine(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    weights: str | os.PathLike[str] | None = None,
    batch_sizes: Sequence[int] | None = None,
    threads: int | None = None,
) -> Runner:
    """The Runner of an engine file (`runner.description` says what it is); the network's code is not needed.

    With `weights`, the file must have been built from that weights file.  `batch_sizes` only choose between latency
    and throughput (OpenVINO).  Raises CheckpointError for a wrong or stale file, BackendUnavailable.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}, expected an engine file")
    load = {".onnx": _load_onnx, ".xml": _load_openvino}.get(path.suffix, _load_trt)
    runner, description = load(path, device, weights, batch_sizes, threads)
    runner.description = description
    return runner


def _cannot_load(path: Path, library: str, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: {library} cannot load it ({' '.join(str(error).split())[:300]})")


def _check_pair(description: EngineDescription, path: Path, data: Path, beside: str, weights: Any) -> None:
    """CheckpointError where the description is not that of `data`, or the engine not that of `weights`."""
    if sha256_of(data) != description.data_sha256:
        raise CheckpointError(f"{path}: {beside} beside it belongs to another file: build both again")
    check_weights(description, path, weights)


# ONNX


def _save_onnx(
    model: Network, path: Path, description: EngineDescription, *, nms: Any, calibration: Any, settings: Any
) -> EngineDescription:
    require_packages("onnx", "onnx", "onnx", "onnxscript", *(["onnxruntime"] if calibration is not None else []))
    import onnx

    proto = to_onnx(on_device(model, torch.device("cpu"), torch.float32))
    if calibration is not None:
        proto = quantize_onnx(proto, calibration)
    if nms is not None:  # after the quantiser, which would have no use for boxes
        add_nms(proto, anchor_boxes(model.config).numpy(), description.num_classes, nms)
    opset = max(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    versions = {**description.versions, "onnx": onnx.__version__, "opset": str(opset)}
    description = dataclasses.replace(description, versions=versions)
    onnx.helper.set_model_props(proto, {KEY: description.to_json()})
    with written_whole(path) as temporary:
        onnx.save(proto, str(temporary))
    return description


def _load_onnx(path: Path, device: Any, weights: Any, batch_sizes: Any, threads: int | None) -> _Loaded:
    require_packages("onnx", "onnx", "onnxruntime")
    try:
        session = open_session(str(path), threads)
    except Exception as error:  # onnxruntime has a class of its own for every reason
        raise _cannot_load(path, "ONNX Runtime", error) from None
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise CheckpointError(f"{path}: an ONNX file, but not an engine of jpegdeep_torch: no {KEY!r} in it")
    description = EngineDescription.from_json(text, path)
    check_weights(description, path, weights)
    function = session_function(session)
    return OnnxRuntimeBackend.runner(function, description.precision, description.batch_sizes), description


# OpenVINO


def _save_openvino(
    model: Network, path: Path, description: EngineDescription, *, nms: Any, calibration: Any, settings: Any
) -> EngineDescription:
    require_packages("openvino", "openvino", "openvino")
    import openvino

    network = to_openvino(on_device(model, torch.device("cpu"), torch.float32), calibration)
    data = path.with_suffix(".bin")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        new_path, new_data = Path(folder) / path.name, Path(folder) / data.name
        # Twice: the description names the hash of the weights, which are the same the second time.
        openvino.serialize(network, new_path, new_data)
        description = dataclasses.replace(
            description,
            data_sha256=sha256_of(new_data),
            versions={**description.versions, "openvino": openvino.get_version()},
        )
        network.set_rt_info(description.to_json(), [KEY])
        openvino.serialize(network, new_path, new_data)
        os.replace(new_data, data)
        os.replace(new_path, path)
    return description


def _load_openvino(path: Path, device: Any, weights: Any, batch_sizes: Any, threads: int | None) -> _Loaded:
    require_packages("openvino", "openvino", "openvino")
    import openvino

    data = path.with_suffix(".bin")
    if not data.is_file():
        raise CheckpointError(f"{path}: its weights {data.name} are not beside it")
    try:
        network = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise _cannot_load(path, "OpenVINO", error) from None
    if not network.has_rt_info([KEY]):
        raise CheckpointError(f"{path}: an OpenVINO file, but not an engine of jpegdeep_torch: no {KEY!r} in it")
    description = EngineDescription.from_json(network.get_rt_info([KEY]).value, path)
    _check_pair(description, path, data, data.name, weights)
    sizes = tuple(batch_sizes or description.batch_sizes)
    function = compiled_function(compile_openvino(network, sizes, threads))
    return OpenVinoBackend.runner(function, description.precision, sizes), description


# TensorRT


def side_file(path: Path) -> Path:
    """Where a TensorRT engine's description is."""
    return path.with_name(path.name + ".json")


def _save_trt(
    model: Network, path: Path, description: EngineDescription, *, nms: Any, calibration: Any, settings: Any
) -> EngineDescription:
    backend = trt.TensorRTBackend()
    backend.require("cuda")
    device = torch.device("cuda", torch.cuda.current_device())
    sizes = description.batch_sizes
    torch_tensorrt, engine = backend.compile(model, device, description.precision, sizes, calibration, settings)
    dtype = DTYPES[description.precision]
    _, best, largest = trt.batch_range(sizes)
    with written_whole(path) as temporary, quietly():
        torch_tensorrt.save(
            engine,
            str(temporary),
            output_format="exported_program",
            # Tensors and explicit shapes: from torch_tensorrt.Input it would infer a separate Dim for each input.
            arg_inputs=list(example_inputs(model, best, device, dtype)),
            dynamic_shapes=batch_shapes(model, largest),
        )
    description = dataclasses.replace(
        description, data_sha256=sha256_of(path), gpu=torch.cuda.get_device_name(device), versions=trt_versions()
    )
    with written_whole(side_file(path)) as temporary:
        temporary.write_text(description.to_json(), encoding="utf-8")
    return description


def trt_versions() -> dict[str, str]:
    """What a TensorRT engine only runs with."""
    return {
        "torch": torch.__version__,
        "torch_tensorrt": version("torch_tensorrt"),
        "tensorrt": trt.tensorrt_version(),
    }


def check_trt(description: EngineDescription, path: Path, gpu: str) -> None:
    """CheckpointError, naming every difference, where the engine was built for another GPU or other libraries."""
    here = {**trt_versions(), "GPU": gpu}
    built = {**description.versions, "GPU": description.gpu}
    wrong = [f"{name} {built.get(name)} (here {here[name]})" for name in here if built.get(name) != here[name]]
    if wrong:
        raise CheckpointError(f"{path}: stale: built for {', '.join(wrong)}: build it again on this machine")


def _load_trt(path: Path, device: Any, weights: Any, batch_sizes: Any, threads: int | None) -> _Loaded:
    beside = side_file(path)
    if not beside.is_file():
        raise CheckpointError(
            f"{path}: not an engine file: ONNX's end in .onnx, OpenVINO's in .xml, and TensorRT's have {beside.name} "
            "beside them"
        )
    description = EngineDescription.from_json(beside.read_text(encoding="utf-8"), beside)
    _check_pair(description, path, path, beside.name, weights)
    trt.TensorRTBackend().require("cuda")
    device = torch.device(device or "cuda")
    if device.type != "cuda":
        raise BackendUnavailable(f"{path}: a TensorRT engine runs on a GPU, not on {device}")
    device = torch.device("cuda", device.index or 0)
    check_trt(description, path, torch.cuda.get_device_name(device))
    torch_tensorrt = trt.import_torch_tensorrt()
    try:
        with quietly():
            engine = torch_tensorrt.load(str(path)).module()
    except Exception as error:
        raise _cannot_load(path, "torch_tensorrt", error) from None
    runner = trt.engine_runner(torch_tensorrt, engine, device, description.precision, description.batch_sizes)
    return runner, description
