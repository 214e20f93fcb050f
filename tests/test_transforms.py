"""JpegToTensor against Pillow's path, and in a DataLoader's workers."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as transforms

from jpegdeep_torch.transforms import JpegToTensor
from tests.jpeg_samples import jpeg, picture

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pillow_crop(data: bytes, shorter: int, size: int) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as image:
        image = transforms.center_crop(transforms.resize(image.convert("RGB"), [shorter]), [size])
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("shape", [(300, 411), (411, 300), (97, 300), (230, 231)])
def test_crop_is_where_torchvision_cuts(shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]] / 16  # smooth: a pixel's shift would show, rounding hardly does
    pixels = np.stack([100 + 90 * np.sin(rows), 100 + 90 * np.cos(columns), 80 + 70 * np.sin(rows + columns)], -1)
    data = jpeg(pixels.astype(np.uint8), quality=95, subsampling="4:4:4")
    got = JpegToTensor(224, fit="crop", shorter_side=256, dtype=torch.uint8)(data)
    difference = (got.int() - pillow_crop(data, 256, 224).int()).abs()
    assert got.shape == (3, 224, 224) and (difference <= 1).float().mean() >= 0.99 and difference.max() <= 3


def test_normalised_in_a_data_loader_s_workers(tmp_path):
    for i in range(4):
        (tmp_path / f"class{i % 2}").mkdir(exist_ok=True)
        (tmp_path / f"class{i % 2}" / f"{i}.jpg").write_bytes(jpeg(picture(90 + i, 120)))
    reader = JpegToTensor((64, 80), "bicubic", mean=MEAN, std=STD)
    images, labels = next(iter(DataLoader(ImageFolder(tmp_path, loader=reader), batch_size=4, num_workers=1)))
    assert images.shape == (4, 3, 64, 80) and labels.tolist() == [0, 0, 1, 1]
    plain = JpegToTensor((64, 80), "bicubic")((tmp_path / "class0" / "0.jpg").read_bytes())
    torch.testing.assert_close(images[0], transforms.normalize(plain, MEAN, STD))


def test_letterbox_fills_beside_the_picture():
    got = JpegToTensor(64, fit="letterbox", fill=(7, 200, 90), dtype=torch.uint8)(jpeg(picture(60, 120)))
    assert (got[:, :16] == torch.tensor([7, 200, 90], dtype=torch.uint8)[:, None, None]).all()
    assert (got[:, 48:] == got[:, :16]).all() and not (got[:, 16:48] == got[:, :1]).all()


def test_what_it_refuses():
    with pytest.raises(ValueError, match="uint8 or torch"):
        JpegToTensor(64, dtype=torch.float16)
    with pytest.raises(ValueError, match="come together"):
        JpegToTensor(64, mean=MEAN)
