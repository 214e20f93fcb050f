"""A trained weights file -> the one that the package brings along: half precision, with its model card.

python -m eval.ship runs/bccd/last.safetensors docs/detectors/bccd.toml -o bccd.safetensors
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jpegdeep_torch.cli.command import Parser, run_command
from jpegdeep_torch.errors import CheckpointError
from jpegdeep_torch.utils.files import sha256_of
from jpegdeep_torch.utils.settings import TomlError, parse_toml
from jpegdeep_torch.weights import save_half


def main(argv: Sequence[str] | None = None) -> None:
    p = Parser(prog="python -m eval.ship", description=__doc__.splitlines()[0])
    p.add_argument("weights", metavar="WEIGHTS.safetensors")
    p.add_argument("card", metavar="CARD.toml", help="a text for each field of weights.CARD_FIELDS")
    p.add_argument("-o", "--output", required=True, metavar="FILE.safetensors")
    args = p.parse_args(argv)
    try:
        card = parse_toml(Path(args.card).read_text(encoding="utf-8"))
    except (OSError, TomlError, ValueError) as error:
        raise CheckpointError(f"{args.card}: no model card in TOML ({error})") from None
    info = save_half(args.weights, args.output, {key: " ".join(str(text).split()) for key, text in card.items()})
    size_mb = Path(args.output).stat().st_size / 1e6
    print(f"{args.output}: {info.model}, {info.num_classes} classes, {size_mb:.1f} MB, sha256 {sha256_of(args.output)}")


if __name__ == "__main__":
    sys.exit(run_command(main))
