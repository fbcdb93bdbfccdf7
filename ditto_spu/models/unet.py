"""Build diffusion models: UNets of several sizes with random weights, and the trained one of digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ditto_spu.diffusion.schedule import Schedule
from ditto_spu.models import digits
from ditto_spu.models.named import Pictures, Program

_TIME = 500  # the timestep of a named program


@dataclass(frozen=True)
class PictureModel:
    """A UNet by the fields of `UNet`, for pictures of `size` x `size`.

    trained: whether its weights are those of the trained model of digits, in place of random ones.
    """

    settings: Mapping[str, Any]
    size: int
    trained: bool = False

    def pictures(self) -> Pictures:
        """Return the model with its weights, as a sampler takes it."""
        from ditto_spu.architectures.unet import UNet, initial

        unet = UNet(**self.settings)
        params = digits.load()[0] if self.trained else initial(unet, self.size)
        return Pictures(
            unet.denoiser, params, (self.size, self.size, unet.channels), Schedule(), unet.classes
        )

    def build(self) -> Program:
        """Build `predict(params, times, x, labels)`: the noise in a picture x at one public timestep."""
        made = self.pictures()
        denoiser = made.denoiser

        def predict(params: Any, times: Any, x: Any, labels: Any = None) -> Any:
            return denoiser.predict(params, x, denoiser.conditions(params, times)[0], labels)

        x = np.random.default_rng(0).standard_normal((1, *made.shape)).astype(np.float32)
        labels = (np.eye(denoiser.labels, dtype=np.float32)[:1],) if denoiser.labels else ()
        times = np.array([_TIME], np.int32)
        args = (made.params, times, x, *labels)
        return Program(predict, args, public=("times",), weights=1, owner={"params": "server"})


DIGITS = PictureModel(digits.UNET, digits.SIZE, trained=True)
CIPHERDM = PictureModel({"base": 4, "groups": 2, "classes": 2, "transposed": True}, 28)
MNIST = PictureModel({"base": 32, "multiples": (1, 2, 2), "attention": (2,)}, 28)
