"""Write and read the folder of a trained classifier: its weights, and a card that describes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ditto_spu.errors import InputError
from ditto_spu.models.named import Program

Text = str | tuple[str, str]  # a sentence, or a pair of them
VERSION = 1
WEIGHTS, CARD = "weights.safetensors", "model.json"


@dataclass(frozen=True)
class Card:
    """A description of the weights in a folder.

    classes: the names of the classes, in the order of the logits.
    length: every text is cut or padded to this many tokens.
    texts: a few texts for calibration.
    task, config: how the weights were made.
    """

    classes: tuple[str, ...]
    length: int
    texts: tuple[Text, ...]
    task: str
    config: str = ""  # the configuration it was trained for; "" for a float model
    version: int = VERSION


def save(folder: Path, params: Any, card: Card) -> None:
    """Write weights and card to the folder."""
    from ditto_spu.distill.weights import save_weights

    folder.mkdir(parents=True, exist_ok=True)
    save_weights(params, folder / WEIGHTS)
    (folder / CARD).write_text(json.dumps(asdict(card), indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[dict[str, Any], Card]:
    """Return weights and card of a folder that `save` wrote.

    Raises InputError if they are missing or damaged.
    """
    from ditto_spu.distill.weights import load_weights

    card = load_card(folder)
    return load_weights(folder / WEIGHTS), card


def load_card(folder: Path) -> Card:
    """Return the card alone, with the errors of `load`."""
    path = folder / CARD
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise InputError(f"'{path}' has version {data['version']}: train it anew")
        texts = tuple(each if isinstance(each, str) else tuple(each) for each in data["texts"])
        return Card(tuple(data["classes"]), data["length"], texts, data["task"], data["config"])
    except OSError:
        raise InputError(
            f"'{folder}' holds no trained model (no {CARD}): make one with `ditto finetune --out {folder}`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is damaged ({error!r}): train it anew") from None


def builder(folder: Path) -> Callable[[], Program]:
    """Return a function that builds the program of a folder.

    A call takes one text. The texts of the card are its example calls for calibration and search.
    """

    def build() -> Program:
        from ditto_spu.models.classifier import classify, tokenised

        params, card = load(folder)
        calls = [(params, *tokenised([each], card.length)) for each in card.texts]
        return Program(classify, calls[0], public=("mask",), weights=1, examples=tuple(calls[1:]))

    return build
