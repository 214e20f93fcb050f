"""Checks an installed wheel: its reader is the native one, and reads a JPEG as libjpeg does.

Run by whoever built the wheel, in an environment of nothing but the wheel and what it requires.
"""

from __future__ import annotations

import io
import tempfile
from importlib.metadata import files
from pathlib import Path

import numpy as np
from PIL import Image

import jpegdeep_torch
from jpegdeep_torch.jpeg import native, read_planes
from jpegdeep_torch.jpeg.pixels import decode_rgb

if native.native_module() is None:
    raise SystemExit("the wheel holds no native reader that runs here")
licences = [str(file) for file in files("jpegdeep-torch") or [] if "libjpeg-turbo" in str(file)]
if not licences:
    raise SystemExit("the licence of libjpeg-turbo is missing in the wheel")

# A smooth picture and one of noise, baseline and progressive.
rng = np.random.default_rng(0)
ramp = np.add.outer(np.arange(96), np.arange(128))[..., None] * [0.5, 1, 1.1]
for pixels in (ramp.astype(np.uint8), rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)):
    for progressive in (False, True):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90, progressive=progressive)
        data = buffer.getvalue()
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        if np.abs(decode_rgb(data, decoder="native") - expected).max() > 1:
            raise SystemExit("the native decoder's pixels are not Pillow's")
        mean = read_planes(data).coefficients[0][..., 0].mean() / 8 + 128
        luma = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        if abs(mean - luma.mean()) > 2:
            raise SystemExit(f"coefficients say a mean luma of {mean:.1f}, Pillow {luma.mean():.1f}")

model = jpegdeep_torch.create_model("ssd300_vgg16_dct", width=0.125, seed=0)
with tempfile.TemporaryDirectory() as folder:
    jpegdeep_torch.save_weights(model, Path(folder, "seeded.safetensors"), "voc")
    detector = jpegdeep_torch.Detector.load(Path(folder, "seeded.safetensors"), workers=0)
    (found,) = detector.predict([data])
print(f"native reader {native.native_module().__file__}; {len(found['scores'])} boxes of a seeded network")
