"""Pictures of shapes, and the commands run as processes."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from jpegdeep_torch.cli.command import run_command

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("disc", "square", "bar")
WIDTH, HEIGHT = 200, 150


def draw_scene(seed: int) -> tuple[Image.Image, list[tuple[str, tuple[int, int, int, int]]]]:
    """A picture of a few shapes on a noisy ground, and their (class, box)."""
    rng = np.random.default_rng(seed)
    ground = rng.normal(110, 8, (HEIGHT, WIDTH, 3)) + np.linspace(-30, 30, WIDTH)[None, :, None]
    picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    pen, objects = ImageDraw.Draw(picture), []
    for _ in range(rng.integers(1, 5)):
        name = str(rng.choice(NAMES))
        width, height = rng.integers(20, 70, 2).tolist()
        x, y = int(rng.integers(1, WIDTH - width)), int(rng.integers(1, HEIGHT - height))
        box = (x, y, x + width, y + height)
        shape = pen.ellipse if name == "disc" else pen.rectangle
        shape(box, fill=tuple(rng.integers(0, 255, 3).tolist()))
        objects.append((name, box))
    return picture, objects


def start(command: str, *arguments: object, **options) -> subprocess.Popen:
    """`python -m eval.COMMAND ...`, one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", f"eval.{command}", *map(str, arguments)],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


def run(command: str, *arguments: object, stdin: str = "") -> Done:
    """The same command in this process, which has PyTorch loaded already."""
    main = importlib.import_module(f"eval.{command}").main
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run_command(main, [str(argument) for argument in arguments])
    finally:
        sys.stdin = before
    return Done(status, out.getvalue(), err.getvalue())
