"""Networks and example inputs for `shared/tools/trt_dryrun.py`: NAME in float32, NAME:half in half precision."""

from __future__ import annotations

import torch

from jpegdeep_torch.models import create_model


def factory(name: str):
    """(network, inputs of batch 2)."""
    name, _, precision = name.partition(":")
    model = create_model(name, seed=0)
    dtype = torch.float16 if precision == "half" else torch.float32
    inputs = [torch.zeros(2, *shape, dtype=dtype) for shape in model.config.input_shapes().values()]
    return model.to(dtype), tuple(x.to(memory_format=torch.channels_last) for x in inputs)
