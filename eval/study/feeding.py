"""How many CPU cores keep one GPU busy, from published rates of GPUs and the reading measured here."""

from __future__ import annotations

from dataclasses import dataclass

from eval.study.fits import Line

KERAS = "the issue that this project began with: Keras, float32, batch 32, no NMS"
NVIDIA = "NVIDIA DeepLearningExamples, PyTorch/Detection/SSD/README.md, inference, batch 32"


@dataclass(frozen=True)
class PublishedRate:
    """Images/s of an SSD300 on pixels, network alone; of one on coefficients where that was published too."""

    gpu: str
    rgb: float
    dct: float | None
    source: str


PUBLISHED = (
    PublishedRate("GTX 1080, float32", 108.7, 227.0, KERAS),
    PublishedRate("V100 16 GB, float32", 311.6, None, NVIDIA),
    PublishedRate("V100 16 GB, mixed precision", 605.3, None, NVIDIA),
    PublishedRate("A100 80 GB, TF32", 709.0, None, NVIDIA),
    PublishedRate("A100 80 GB, mixed precision", 970.3, None, NVIDIA),
)
_DCT_OVER_RGB = 227.0 / 108.7  # the GTX 1080's, for GPUs of which only the rate for pixels was published


@dataclass(frozen=True)
class CoresPerGpu:
    """Cores that read as many images/s as the GPU takes."""

    rate: PublishedRate
    dct_per_s: float
    extrapolated: bool  # whether `dct_per_s` is the rate for pixels times the GTX 1080's ratio
    rgb_cores: float
    dct_cores: float


def cores_per_gpu(read_rgb: Line, read_dct: Line, megapixels: float) -> list[CoresPerGpu]:
    """What each of PUBLISHED needs.  `read_rgb`, `read_dct`: ms of one core per image, by megapixels."""
    found = []
    for rate in PUBLISHED:
        dct = rate.dct or rate.rgb * _DCT_OVER_RGB
        cores = rate.rgb * read_rgb(megapixels) / 1e3, dct * read_dct(megapixels) / 1e3
        found.append(CoresPerGpu(rate, dct, rate.dct is None, *cores))
    return found
