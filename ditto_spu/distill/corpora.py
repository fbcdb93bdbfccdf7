"""Load GLUE and Wikitext with the `datasets` library.

The data come from a local folder, or from the hub if the user gives no folder. A local folder is one that
`DatasetDict.save_to_disk` wrote, or one that `load_dataset` accepts as a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditto_spu.distill.task import Split, Task
from ditto_spu.errors import InputError, nearest

# GLUE's classification tasks. Each entry names the columns of the sentences and the split that serves for
# testing. STS-B is missing because it is a regression, and AX because it has no training data.
GLUE: Mapping[str, tuple[tuple[str, ...], str]] = {
    "cola": (("sentence",), "validation"),
    "mnli": (("premise", "hypothesis"), "validation_matched"),
    "mrpc": (("sentence1", "sentence2"), "validation"),
    "qnli": (("question", "sentence"), "validation"),
    "qqp": (("question1", "question2"), "validation"),
    "rte": (("sentence1", "sentence2"), "validation"),
    "sst2": (("sentence",), "validation"),
    "wnli": (("sentence1", "sentence2"), "validation"),
}
WIKITEXT = ("wikitext-2-raw-v1", "wikitext-103-raw-v1", "wikitext-2-v1", "wikitext-103-v1")
_HELD_OUT = 10  # every tenth training row validates, because GLUE's test labels are secret


def glue_task(name: str, folder: Path | None = None) -> Task:
    """Load a GLUE classification task from a folder, or from the hub if `folder` is None.

    The validation split of GLUE becomes the test split, because GLUE's own test split has no labels. Every
    tenth training row, in order, goes to the validation split.

    Raises InputError for an unknown task, and for data that cannot be loaded or lack a split, a column or
    labels.
    """
    if name not in GLUE:
        raise InputError(f"there is no GLUE classification task '{name}'{nearest(name, GLUE)}")
    columns, tested = GLUE[name]
    data = _load("nyu-mll/glue", name, folder)
    rows = {split: _rows(data, split, columns, name) for split in ("train", tested)}
    train, test = rows["train"], rows[tested]
    classes = _classes(data["train"], train)
    held = [row for number, row in enumerate(train) if number % _HELD_OUT == 0]
    kept = [row for number, row in enumerate(train) if number % _HELD_OUT]
    return Task(f"glue:{name}", classes, _split(kept), _split(held), _split(test), str(folder or "the hub"))


def wikitext(name: str = "wikitext-2-raw-v1", folder: Path | None = None, least_words: int = 4) -> Task:
    """Load Wikitext as texts without labels, on which a student learns to imitate its teacher.

    A text is a line that is not a heading and has at least `least_words` words. The data come from the
    folder, or from the hub if `folder` is None. Raises InputError as `glue_task` does.
    """
    if name not in WIKITEXT:
        raise InputError(f"there is no Wikitext '{name}'{nearest(name, WIKITEXT)}")
    data = _load("Salesforce/wikitext", name, folder)

    def texts(split: str) -> Split:
        lines = [" ".join(row.split()) for row in _column(data, split, "text", name)]
        return Split(tuple(x for x in lines if len(x.split()) >= least_words and not x.startswith("=")), ())

    return Task(name, (), texts("train"), texts("validation"), texts("test"), str(folder or "the hub"))


def _load(path: str, name: str, folder: Path | None) -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError(
            "GLUE and Wikitext need the `datasets` library: run `pip install 'ditto-spu[data]'`"
        ) from None
    try:
        if folder is None:
            return datasets.load_dataset(path, name)
        if not folder.is_dir():
            raise InputError(f"there is no folder '{folder}' with the data set '{name}'")
        if (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(folder))
        return datasets.load_dataset(str(folder))
    except InputError:
        raise
    except Exception as error:
        where = "from the hub" if folder is None else f"from '{folder}'"
        reason = (
            f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
        )
        raise InputError(
            f"'{name}' cannot be loaded {where} ({reason}): give a folder that "
            "`datasets.DatasetDict.save_to_disk` wrote"
        ) from None


def _column(data: Any, split: str, column: str, name: str) -> list[Any]:
    if split not in data:
        raise InputError(f"'{name}' has no split '{split}' (it has {', '.join(data)})")
    if column not in data[split].column_names:
        known = data[split].column_names
        raise InputError(
            f"split '{split}' of '{name}' has no column '{column}' (it has {', '.join(known)})"
            f"{nearest(column, known)}"
        )
    return list(data[split][column])


def _rows(data: Any, split: str, columns: tuple[str, ...], name: str) -> list[tuple[Any, int]]:
    texts = [_column(data, split, column, name) for column in columns]
    labels = [int(label) for label in _column(data, split, "label", name)]
    if any(label < 0 for label in labels):
        raise InputError(f"split '{split}' of '{name}' has rows without labels")
    paired = texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))
    return list(zip(paired, labels, strict=True))


def _classes(split: Any, rows: list[tuple[Any, int]]) -> tuple[str, ...]:
    """Return the class names that the label feature states, or numbers if it states none."""
    names = getattr(split.features["label"], "names", None)
    return tuple(names) if names else tuple(str(n) for n in range(1 + max(label for _, label in rows)))


def _split(rows: list[tuple[Any, int]]) -> Split:
    return Split(tuple(text for text, _ in rows), tuple(label for _, label in rows))
