"""Tasks: docstrings of the standard library, GLUE and Wikitext from local folders, baselines, batches."""

import numpy as np
import pytest

from ditto_spu.distill.corpora import GLUE, glue_task, wikitext
from ditto_spu.distill.logistic_baseline import logistic_regression
from ditto_spu.distill.stdlib_docstrings import GROUPS, docstring_task, split_of
from ditto_spu.distill.task import Examples, batch_at, majority, whole_batches
from ditto_spu.errors import InputError

TWICE = 'def same():\n    """A text that stands twice here."""\n'
PEER = 'class A:\n    """Send bytes to a   peer\n    far away.\n\n    More text here that is left out."""\n'
LIBRARY = {
    "tkinter/__init__.py": '"""Wrapper functions that draw windows."""\ndef go():\n    "Too short."\n',
    "socket.py": PEER,
    "http/client.py": '"""Requests and answers of the web."""\n',
    "email/message.py": '"""Representation of one electronic letter."""\n',
    "threading.py": '"""Several threads that share one memory."""\n',
    "site.py": '"""Places where packages are looked for."""\n',
    "logging/__init__.py": '"""Records of what a program did."""\n',
    "random.py": '"""Numbers that nobody can foresee well."""\n',
    "shutil.py": f'"""Copy whole trees of files around."""\n{TWICE}',
    "json/__init__.py": f'"""Text made of objects and lists."""\n{TWICE}',
    "test/support.py": '"""Never a part of any of this."""\n',
    "broken.py": "def (\n",
    "re.py": '"""\\d escapes in an old source file."""\nx = "\\d"\n',
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    for name, text in LIBRARY.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return folder


def rows(task):
    splits = (task.train, task.validation, task.test)
    return {
        text: task.classes[label]
        for split in splits
        for text, label in zip(split.texts, split.labels, strict=True)
    }


def test_docstrings_are_cleaned_labelled_and_unique(library, monkeypatch):
    monkeypatch.setattr(
        "ditto_spu.distill.stdlib_docstrings.split_of", lambda text: "test" if "peer" in text else "train"
    )
    found = rows(docstring_task(library))
    assert found["Send bytes to a peer far away."] == "network"
    assert found["Numbers that nobody can foresee well."] == "numbers"
    assert found["Wrapper functions that draw windows."] == "windows"
    assert "A text that stands twice here." not in found  # in two groups
    assert not [text for text in found if "Never" in text or "More" in text or "short" in text]


def test_too_few_sources_are_refused(library):
    (library / "empty").mkdir(exist_ok=True)
    with pytest.raises(InputError, match="too few docstrings"):
        docstring_task(library / "empty")


@pytest.mark.slow
def test_the_librarys_own_splits_are_fixed_disjoint_and_large_enough():
    first = docstring_task()
    splits = [set(split.texts) for split in (first.train, first.validation, first.test)]
    assert sum(map(len, splits)) == len(set.union(*splits))
    assert len(first.test) >= 500
    for name, split in zip(("train", "validation", "test"), splits, strict=True):
        assert {split_of(text) for text in split} == {name}
    assert set(first.train.labels) == set(range(len(GROUPS)))
    assert split_of("Open a URL as a file.") == split_of("Open a URL as a file.")


def test_no_module_is_in_two_groups():
    modules = [name for group in GROUPS.values() for name in group]
    assert len(modules) == len(set(modules))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    datasets = pytest.importorskip("datasets")

    def write(name, **splits):
        folder = tmp_path_factory.mktemp(name)
        made = {split: datasets.Dataset.from_dict(columns) for split, columns in splits.items()}
        if name == "sst2":
            features = datasets.ClassLabel(names=["negative", "positive"])
            made = {split: each.cast_column("label", features) for split, each in made.items()}
        datasets.DatasetDict(made).save_to_disk(str(folder))
        return folder

    return write


def test_glue_from_a_folder(saved):
    sentences = [f"sentence {number}" for number in range(20)]
    folder = saved(
        "sst2",
        train={"sentence": sentences, "label": [0, 1] * 10},
        validation={"sentence": ["good", "bad"], "label": [1, 0]},
        test={"sentence": ["hidden"], "label": [0]},
    )
    task = glue_task("sst2", folder)
    assert task.classes == ("negative", "positive")
    assert task.validation.texts == ("sentence 0", "sentence 10")
    assert len(task.train) == 18
    assert (task.test.texts, task.test.labels) == (("good", "bad"), (1, 0))


def test_pairs_of_sentences(saved):
    columns = {"premise": ["a b"] * 11, "hypothesis": ["c"] * 11, "label": [0, 1, 2] * 3 + [0, 1]}
    task = glue_task("mnli", saved("mnli", train=columns, validation_matched=columns))
    assert task.train.texts[0] == ("a b", "c")
    assert task.classes == ("0", "1", "2")


def test_wikitext_from_a_folder(saved):
    lines = {"text": ["", " = A heading of an article = \n", " One line of real text . \n", "too short"]}
    task = wikitext(folder=saved("wiki", train=lines, validation=lines, test=lines))
    assert task.train.texts == ("One line of real text .",)
    assert task.train.labels == ()


def test_what_is_missing_is_named(saved, tmp_path):
    with pytest.raises(InputError, match=r"no GLUE classification task 'sst'.*sst2"):
        glue_task("sst")
    with pytest.raises(InputError, match="no folder"):
        glue_task("sst2", tmp_path / "nothing")
    with pytest.raises(InputError, match="save_to_disk"):
        glue_task("sst2", tmp_path)
    with pytest.raises(InputError, match="no Wikitext 'wikitext-2'"):
        wikitext("wikitext-2", tmp_path)
    wrong = saved("cola", train={"text": ["a"], "label": [0]}, validation={"text": ["a"], "label": [0]})
    with pytest.raises(InputError, match="no column 'sentence'"):
        glue_task("cola", wrong)
    with pytest.raises(InputError, match="no split 'validation_matched'"):
        glue_task("mnli", saved("mnli", train={"premise": ["a"], "hypothesis": ["b"], "label": [0]}))
    hidden = {"sentence": ["a"], "label": [-1]}
    with pytest.raises(InputError, match="without labels"):
        glue_task("cola", saved("cola", train=hidden, validation=hidden))
    assert "stsb" not in GLUE


def test_batches_are_a_permutation_an_epoch_and_depend_on_the_step_alone():
    data = Examples((np.arange(10),), np.arange(10, dtype=np.int32))
    epoch = [batch_at(data, step, 3, 5) for step in range(3)]
    seen = np.concatenate([each.inputs[0] for each in epoch])
    assert len(set(seen.tolist())) == 9
    np.testing.assert_array_equal(batch_at(data, 1, 3, 5).labels, epoch[1].labels)
    assert not np.array_equal(batch_at(data, 3, 3, 5).labels, epoch[0].labels)
    assert [(each.inputs[0].tolist(), count) for each, count in whole_batches(data, 4)][-1] == (
        [8, 9, 9, 9],
        2,
    )


def test_baselines():
    assert majority([0, 1, 1, 2], [1, 1, 0]) == 0.5
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((3, 5)) * 3
    labels = np.arange(90, dtype=np.int32) % 3
    vectors = (centres[labels] + draw.standard_normal((90, 5)) / 2).astype(np.float32)
    found = logistic_regression(vectors[:60], labels[:60], vectors[60:])
    assert np.mean(found == labels[60:]) > 0.95
    with pytest.raises(InputError, match="have 59 labels"):
        logistic_regression(vectors[:60], labels[:59], vectors)
