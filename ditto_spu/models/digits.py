"""A diffusion model of handwritten digits of 8 x 8 pixels, and a classifier that judges its pictures.

`python -m ditto_spu.demos.train_digits` made both from the digits of scikit-learn. Their weights lie beside
this file, in 16-bit floats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ditto_spu.diffusion.schedule import Schedule

SIZE, CLASSES = 8, 10
SCHEDULE = Schedule()
UNET = {"base": 16, "groups": 4, "classes": CLASSES}
WEIGHTS = Path(__file__).parent / "digits.safetensors"


def unet() -> Any:
    """Return the flax module that predicts noise."""
    from ditto_spu.architectures.unet import UNet

    return UNet(**UNET)


def judge() -> Any:
    """Return the flax module of the classifier."""
    from ditto_spu.architectures.judge import Judge

    return Judge(classes=CLASSES)


def classes_of(params: Any, pictures: Any) -> Any:
    """Return the classes [batch] that the classifier sees in pictures [batch, 8, 8, 1]."""
    return np.argmax(judge().apply({"params": params}, pictures), axis=-1)


def save(unet: Any, judge: Any, path: Path = WEIGHTS) -> None:
    """Write the weights of both modules to a file, in 16-bit floats."""
    from safetensors.numpy import save_file

    from ditto_spu.distill.weights import flatten

    flat = flatten({"unet": unet, "judge": judge})
    save_file({name: np.asarray(each, np.float16) for name, each in flat.items()}, path)


def load(path: Path = WEIGHTS) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the weights of the UNet and of the classifier, in 32-bit floats."""
    from safetensors.numpy import load_file

    from ditto_spu.distill.weights import unflatten

    tree = unflatten({name: np.asarray(each, np.float32) for name, each in load_file(path).items()})
    return tree["unet"], tree["judge"]
