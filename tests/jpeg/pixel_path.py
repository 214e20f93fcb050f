"""The tests' own float64 'inverse DCT, resize, DCT': what resizing in the DCT domain has to equal.

Written on pixels and with PyTorch's resampler, and sharing nothing with the package.
"""

from __future__ import annotations

import numpy as np
import torch

FREQUENCY, SAMPLE = np.mgrid[:8, :8]
COSINES = np.where(FREQUENCY == 0, np.sqrt(1 / 8), 0.5 * np.cos(np.pi * FREQUENCY * (2 * SAMPLE + 1) / 16))


def pixels(blocks: np.ndarray) -> np.ndarray:
    """(block rows, block columns, 64) coefficients to samples around 0."""
    rows, columns, _ = blocks.shape
    samples = np.einsum("vy,rcvu,ux->rycx", COSINES, blocks.reshape(rows, columns, 8, 8).astype(np.float64), COSINES)
    return samples.reshape(8 * rows, 8 * columns)


def coefficients(samples: np.ndarray) -> np.ndarray:
    """The other way, for whole blocks."""
    rows, columns = samples.shape[0] // 8, samples.shape[1] // 8
    blocks = np.einsum("vy,rycx,ux->rcvu", COSINES, samples.reshape(rows, 8, columns, 8), COSINES)
    return blocks.reshape(rows, columns, 64)


def upsample_rows(samples: np.ndarray, ratio: int, smooth: bool) -> np.ndarray:
    """libjpeg's upsampling along the first axis: repeated, or weighted 3 to 1 with the nearer neighbour."""
    if not smooth:
        return np.repeat(samples, ratio, axis=0)
    around = np.pad(samples, ((1, 1), (0, 0)), mode="edge")
    result = np.empty((2 * len(samples), samples.shape[1]))
    result[0::2] = 0.75 * samples + 0.25 * around[:-2]
    result[1::2] = 0.75 * samples + 0.25 * around[2:]
    return result


def component_pixels(blocks, image_size, factors, largest) -> np.ndarray:
    """One component's samples, brought to the image's size as libjpeg-turbo's decoder does."""
    (h, v), (widest, highest), (height, width) = factors, largest, image_size
    across, down = widest // h, highest // v
    samples = pixels(blocks)[: -(-height * v // highest), : -(-width * h // widest)]
    wide_enough = samples.shape[1] > 2
    smooth_across = across == 2 and down in (1, 2) and wide_enough
    smooth_down = down == 2 and (across == 1 or (across == 2 and wide_enough))
    samples = upsample_rows(samples, down, smooth_down)
    samples = upsample_rows(samples.T, across, smooth_across).T
    return samples[:height, :width]


def interpolate(samples: np.ndarray, size: tuple[int, int], antialias: bool) -> np.ndarray:
    """PyTorch's bilinear resampler, an axis at a time and each as the last one: torch 2.14's antialiased resize of the
    rows of an image that is one pixel wide takes wrong neighbours."""
    return _interpolate_last(_interpolate_last(samples, size[1], antialias).T, size[0], antialias).T


def _interpolate_last(samples: np.ndarray, length: int, antialias: bool) -> np.ndarray:
    rows = torch.from_numpy(np.ascontiguousarray(samples))[None, None]
    resized = torch.nn.functional.interpolate(rows, (len(samples), length), mode="bilinear", antialias=antialias)
    return resized[0, 0].numpy()


def compress(samples: np.ndarray, chroma: bool) -> np.ndarray:
    """What libjpeg's 4:2:0 compressor does to one component before it quantises."""
    height, width = samples.shape
    if chroma:
        columns = -(-width // 16) * 16
        samples = np.pad(samples, ((0, height % 2), (0, columns - width)), mode="edge")
        samples = (samples[0::2] + samples[1::2]) / 2
        samples = (samples[:, 0::2] + samples[:, 1::2]) / 2
    bottom, right = -samples.shape[0] % 8, -samples.shape[1] % 8
    return coefficients(np.pad(samples, ((0, bottom), (0, right)), mode="edge"))


def resize(planes, size, antialias=False, transform=lambda samples: samples) -> list[np.ndarray]:
    """float64 (block rows, block columns, 64) per component; `transform` is applied to the image's pixels."""
    largest = tuple(max(factors) for factors in zip(*planes.sampling))
    results = []
    for c, (blocks, factors) in enumerate(zip(planes.coefficients, planes.sampling)):
        samples = transform(component_pixels(blocks, planes.image_size, factors, largest))
        results.append(compress(interpolate(samples, size, antialias), chroma=c > 0))
    return results
