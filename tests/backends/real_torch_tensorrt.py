"""Runs in a process of its own: our calls against the real torch_tensorrt, over the stand-in for TensorRT of
shared/tools/trt_dryrun.py.  Prints a JSON object.

python real_torch_tensorrt.py TRT_DRYRUN.py signatures
python real_torch_tensorrt.py TRT_DRYRUN.py dryrun float32|float16 NAME ...
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import logging
import re
import sys
import tempfile
from pathlib import Path

import torch

WIDTH = 0.125
DEVICE = torch.device("cuda", 0)


def import_library(tool: str):
    spec = importlib.util.spec_from_file_location("trt_dryrun", tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.import_torch_tensorrt()


def network(name: str, precision: str):
    from jpegdeep_torch.models import create_model

    return create_model(name, width=WIDTH, seed=0).eval().to(getattr(torch, precision))


def signatures(torch_tensorrt) -> dict:
    from jpegdeep_torch.backends import trt
    from jpegdeep_torch.backends.base import example_inputs
    from jpegdeep_torch.backends.export import batch_shapes
    from jpegdeep_torch.errors import ModelError

    model = network("ssd300_vgg16_dct", "float16")
    arguments = trt.compile_arguments(torch_tensorrt, model, (1, 8), DEVICE)
    bound = inspect.signature(torch_tensorrt.dynamo.compile).bind(None, **arguments)
    settings = inspect.signature(torch_tensorrt.dynamo._settings.CompilationSettings).parameters
    save = inspect.signature(torch_tensorrt.save).bind(
        None,
        "file",
        output_format="exported_program",
        arg_inputs=list(example_inputs(model, 8)),
        dynamic_shapes=batch_shapes(model, 8),
    )
    refused = []
    for name in ("enabled_precisions", "use_explicit_typing", "optimisation_level"):
        try:
            trt.compile_arguments(torch_tensorrt, model, (1, 8), DEVICE, {name: 1})
        except ModelError:
            refused.append(name)
    return {
        "dropped": sorted(bound.arguments.get("kwargs", {})),
        "unknown_to_settings": sorted(set(arguments) - {"arg_inputs"} - set(settings)),
        "dropped_by_save": sorted(save.arguments.get("kwargs", {})),
        "inputs": [[i.shape[k] for k in ("min_shape", "opt_shape", "max_shape")] for i in arguments["arg_inputs"]],
        "refused": refused,
        "cudagraphs": callable(torch_tensorrt.runtime.enable_cudagraphs),
        "load": callable(torch_tensorrt.load),
    }


def dryrun(tool, torch_tensorrt, precision: str, names: list[str]) -> dict:
    """{name: [engines, operators converted, operators in all]}, by the tool; our own call's report for the first."""
    from jpegdeep_torch.backends import trt
    from jpegdeep_torch.backends.base import example_inputs

    found = {}
    for name in names:
        model = network(name, precision)
        engines, done, total, _, _ = tool.coverage(
            torch_tensorrt, model, example_inputs(model, 2, dtype=getattr(torch, precision))
        )
        found[name] = [engines, done, total]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.txt"
        trt.compile_engine(torch_tensorrt, network(names[0], precision), (1, 8), DEVICE, {"dryrun": str(report)})
        text = report.read_text()
    return {"tool": found, "ours": len(re.findall(r"TRT Engine #\d+", text)), "report": text}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    logging.disable(logging.WARNING)
    tool, library = import_library(sys.argv[1])
    answer = signatures(library) if sys.argv[2] == "signatures" else dryrun(tool, library, sys.argv[3], sys.argv[4:])
    print("\n" + json.dumps(answer))
