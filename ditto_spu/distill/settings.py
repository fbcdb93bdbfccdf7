"""Hold all hyperparameters in frozen dataclasses.

The defaults are those of the papers if they state one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from ditto_spu.errors import InputError, nearest
from ditto_spu.ops.layer_norm import LAYER_NORM
from ditto_spu.ops.softmax import SOFTMAX

# The values that stage 1 can compare, by name. Each is given by a composite and the number of its operand;
# None stands for its result.
POINTS: dict[str, tuple[str, int | None]] = {
    "scores": (SOFTMAX.composite, 0),
    "attention": (SOFTMAX.composite, None),
    "hidden": (LAYER_NORM.composite, None),
}


@dataclass(frozen=True)
class Training:
    """Settings of the optimisation.

    The optimiser is AdamW with linear warm-up and cosine decay to zero. Gradients are clipped by their global
    norm.

    batch: examples per step.
    frozen: regular expressions; weights whose whole path matches one keep their values.
    evaluate_every: steps between validations. Each validation also writes a checkpoint.
    patience: a stage ends early after this many validations without a smaller loss. Its best weights are
        kept.
    seed: it decides the order of the examples.

    Raises InputError for a value out of range.
    """

    batch: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1  # fraction of a stage's steps
    clip_norm: float = 1.0
    frozen: tuple[str, ...] = ()
    evaluate_every: int = 100
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in ("batch", "evaluate_every", "patience") and value < 1:
                raise InputError(f"{each.name} must be at least 1, not {value}")
            if each.name.endswith(("steps", "rate", "weight")) and value < 0:
                raise InputError(f"{each.name} must not be negative, but it is {value}")


@dataclass(frozen=True)
class FineTuning(Training):
    """Settings for training a float model on labels."""

    label_steps: int = 500
    label_rate: float = 5e-5


@dataclass(frozen=True)
class Distillation(Training):
    """Settings of a distillation: stage 1 matches `points`, stage 2 matches the logits.

    layer_steps, layer_rate: steps and learning rate of stage 1.
    points: the values to match, from POINTS.
    output_steps, output_rate: steps and learning rate of stage 2.
    temperature: temperature of the soft cross-entropy.
    label_weight: weight of a hard cross-entropy on labels, which is added to the soft one.
    range_weight: weight of a penalty for values beyond the fraction `range_fill` of what their ranges admit.
    """

    layer_steps: int = 1000
    layer_rate: float = 5e-5
    output_steps: int = 500
    output_rate: float = 1e-5
    points: tuple[str, ...] = ("scores", "hidden")
    temperature: float = 1.0
    label_weight: float = 0.0
    range_weight: float = 1.0
    range_fill: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        for each in self.points:
            if each not in POINTS:
                raise InputError(f"there is no point '{each}' to match{nearest(each, POINTS)}")
        if not self.temperature > 0:
            raise InputError(f"temperature must be positive, not {self.temperature}")
        if not 0 < self.range_fill <= 1:
            raise InputError(f"range_fill must be above 0 and at most 1, not {self.range_fill}")
