"""A weights file -> an engine file to keep: ONNX, OpenVINO or TensorRT.

jpegdeep export WEIGHTS.safetensors --backend onnx -o FILE.onnx
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from ..backends.engines import ENGINE_BACKENDS, save_engine
from ..data import list_jpegs, make_loader, prepare_inputs
from ..data.dataset import spread_evenly
from ..detection import NMSConfig
from ..errors import ModelError
from ..models import Network
from ..pretrained import load_model, weights_file
from .command import Parser

CALIBRATION_IMAGES = 128


def main(argv: Sequence[str] | None = None) -> None:
    p = Parser(prog="jpegdeep export", description=__doc__.splitlines()[0])
    p.add_argument("weights", metavar="WEIGHTS", help="a safetensors file, or a name (jpegdeep models)")
    p.add_argument("--backend", required=True, choices=tuple(ENGINE_BACKENDS))
    p.add_argument("-o", "--output", required=True, metavar="FILE",
                   help="FILE.onnx, FILE.xml (OpenVINO), FILE.ep (trt)")  # fmt: skip
    p.add_argument("--precision", default="float32", choices=("float32", "float16", "bfloat16", "int8"),
                   help="default: %(default)s; float16 and bfloat16 with trt alone")  # fmt: skip
    p.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8], metavar="N",
                   help="that will be asked for (default: 1 8); ONNX and OpenVINO files take any")  # fmt: skip
    p.add_argument("--nms", action="store_true", help="put decoding and NMS into the file (onnx)")
    p.add_argument("--calibrate", metavar="DIR", help="JPEGs to calibrate int8 on")
    p.add_argument("--calibration-images", type=int, default=CALIBRATION_IMAGES, metavar="N",
                   help="at most so many of them (default: %(default)s)")  # fmt: skip
    args = p.parse_args(argv)
    if (args.precision == "int8") != (args.calibrate is not None):
        raise ModelError("--precision int8 and --calibrate DIR go together")
    if min(args.batch_sizes) < 1 or args.calibration_images < 1:
        raise ModelError("--batch-sizes and --calibration-images are at least 1")
    with weights_file(args.weights) as file:
        model = load_model(file)
        description = save_engine(
            model, args.output, args.backend, precision=args.precision, batch_sizes=args.batch_sizes,
            nms=NMSConfig() if args.nms else None,
            calibration=calibration(model, args.calibrate, args.calibration_images) if args.calibrate else None,
            weights=file,
        )  # fmt: skip
    size_mb = Path(args.output).stat().st_size / 1e6
    print(
        f"{args.output}: {description.model}, {description.num_classes} classes, {description.precision}, "
        f"{description.backend}{', with NMS' if description.nms else ''}, {size_mb:.1f} MB"
    )


def calibration(model: Network, folder: str, most: int) -> Iterator[tuple[Tensor, ...]]:
    """Single images of `folder` as the network takes them, float32, spread evenly over it; DatasetError, JpegError."""
    preset = model.info.preparation()
    loader = make_loader(spread_evenly(list_jpegs(folder), most), model.config, preset, batch_size=1)
    return (prepare_inputs(batch.inputs, model.config, preset) for batch in loader)
