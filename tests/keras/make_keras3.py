"""Makes the files of Keras 3 in `tests/keras/data`: run by hand, with TensorFlow and Keras 3 installed.

    PYTHONPATH=. python tests/keras/make_keras3.py

Two of the small networks of `make_data.py`, with the same weights, as Keras 3 writes them: `.weights.h5`, a `.keras`
archive, and a whole model's `.h5`.  They answer as the stored outputs say, which is checked here.
"""

from __future__ import annotations

import lzma
import tempfile
from pathlib import Path

import numpy as np

from jpegdeep_torch.keras import open_keras, twin
from tests.keras.samples import DATA, WIDTH, inputs, model_config, rows, unpack
from tests.keras.tables import network

twin.import_keras()
import keras  # noqa: E402 - `import_keras` knows what must come first

NAMES = ("ssd300_vgg16_dct_y", "resnet50_lcrfa_y")
ENDINGS = (".weights.h5", ".keras", ".h5")

if __name__ == "__main__":
    twin.import_keras = lambda: keras
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            model = twin.build_twin(model_config(network(name, WIDTH, 3 if name.startswith("ssd") else 10)))
            with open_keras(unpack(name, Path(folder))) as file:
                twin.load_twin_weights(model, file)
            answer = model.predict(inputs(name), verbose=0)
            with np.load(DATA / f"{name}.npz") as expected:
                if name.startswith("ssd"):
                    np.testing.assert_allclose(answer[:, rows(), :4], expected["conf"], rtol=0, atol=1e-5)
                else:
                    np.testing.assert_allclose(answer, expected["probabilities"], rtol=0, atol=1e-5)
            for ending in ENDINGS:
                path = Path(folder) / f"{name}_keras3{ending}"
                model.save_weights(path) if ending == ".weights.h5" else model.save(path)
                packed = lzma.compress(path.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
                (DATA / f"{path.name}.xz").write_bytes(packed)
                print(path.name, len(packed))
