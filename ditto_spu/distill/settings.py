"""All hyperparameters in frozen dataclasses; defaults are the papers' where they state one."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ditto_spu.errors import InputError, nearest

# What stage 1 compares, by name: the composite, and its operand's number (None: its result).
POINTS: dict[str, tuple[str, int | None]] = {
    "scores": ("ditto.softmax", 0),
    "attention": ("ditto.softmax", None),
    "hidden": ("ditto.layer_norm", None),
}


@dataclass(frozen=True)
class Training:
    """Optimisation: AdamW, linear warm-up, cosine decay to zero, gradients clipped by their global norm.

    frozen: regular expressions of weights that stay as they are. evaluate_every: steps between validations,
    each of which also writes a checkpoint. patience: a stage ends early after so many validations without a
    smaller loss; its best weights are kept. seed: of the order of examples.
    """

    batch: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1  # of a stage's steps
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
    """Training of a float model on labels."""

    label_steps: int = 500
    label_rate: float = 5e-5


@dataclass(frozen=True)
class Distillation(Training):
    """Stage 1 on `points`, stage 2 on logits.

    layer_*: stage 1; output_*: stage 2. temperature: of the soft cross-entropy. label_weight: of a hard one
    on labels, added to it. range_weight: of a penalty for values beyond `range_fill` of what their ranges
    admit.
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
