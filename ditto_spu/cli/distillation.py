"""Define `ditto finetune`, `ditto distill` and `ditto evaluate`: from a task to weights for serving."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ditto_spu.cli.output import progress_console
from ditto_spu.errors import InputError
from ditto_spu.rules.load import load_config

if TYPE_CHECKING:
    from ditto_spu.distill.task import Task

# The embedding tables are frozen by default. Their rows get few gradients from a small task, and one of them
# has half of MiniLM's weights.
FROZEN = "encoder/embeddings/.*_embeddings/embedding"
_EXAMPLES = 32  # number of texts that a folder keeps for calibration

TaskName = Annotated[
    str, typer.Option("--task", help="The task: stdlib (works offline), or glue:NAME such as glue:sst2.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of the task's data set in `datasets` format; for stdlib, a folder of Python sources. "
        "If left out, GLUE comes from the hub and stdlib from this Python.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
Teacher = Annotated[Path, typer.Argument(help="Folder that `ditto finetune` wrote.", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in the folder.")]
Batch = Annotated[int, typer.Option(min=1, help="Examples per step.")]
Freeze = Annotated[
    list[str],
    typer.Option(
        "--freeze", help="Regular expression of weights that keep their values. May be given several times."
    ),
]
Every = Annotated[int, typer.Option("--evaluate-every", min=1, help="Steps between validations.")]
Seed = Annotated[int, typer.Option(help="Seed of the order of examples.")]


def finetune(
    out: Out,
    task: TaskName = "stdlib",
    data: Data = None,
    length: Annotated[int, typer.Option(min=4, help="Every text is cut or padded to this many tokens.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Number of training steps.")] = 520,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-4,
    batch: Batch = 32,
    freeze: Freeze = [FROZEN],  # noqa: B006  typer copies it
    evaluate_every: Every = 130,
    seed: Seed = 0,
    baseline: Annotated[
        bool,
        typer.Option("--baseline/--no-baseline", help="Also measure simple baselines on the test split."),
    ] = True,
    resume: Resume = False,
) -> None:
    """Train MiniLM as a float classifier of a task, to be the teacher of a distillation.

    The folder receives the weights, the curves and result.json with the accuracy.
    """
    loaded = load_task(task, data)
    from ditto_spu.distill.finetune import finetune as train
    from ditto_spu.distill.history import save_curves
    from ditto_spu.distill.settings import FineTuning
    from ditto_spu.distill.weights import unflatten
    from ditto_spu.models import classifier, trained

    settings = FineTuning(
        label_steps=steps,
        label_rate=rate,
        batch=batch,
        frozen=tuple(freeze),
        evaluate_every=evaluate_every,
        seed=seed,
    )
    training, validation, test = (
        classifier.examples(each, length) for each in (loaded.train, loaded.validation, loaded.test)
    )
    start = classifier.initial(len(loaded.classes))
    with _bars() as show:
        done = train(
            classifier.classify,
            start,
            training,
            validation,
            settings,
            folder=out / "checkpoints",
            resume=resume,
            progress=show,
        )
    params = unflatten(done.weights)
    card = trained.Card(loaded.classes, length, loaded.validation.texts[:_EXAMPLES], task)
    trained.save(out, params, card)
    save_curves(done.history, out)
    result: dict[str, Any] = {"task": loaded.source, "settings": vars(settings)}
    result["accuracy"] = classifier.accuracy(params, test)
    if baseline:
        result["baselines"] = classifier.baselines(start, training, test)
    _write(out / "result.json", result)


def distill(
    teacher: Teacher,
    out: Out,
    config: Annotated[
        str, typer.Option("--config", help="Configuration that the model will be served with.")
    ] = "ditto",
    data: Data = None,
    wikitext: Annotated[
        Path | None,
        typer.Option(
            help="Folder of Wikitext, on which the student imitates the teacher. If left out, on the task's "
            "training texts."
        ),
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=4, help="Tokens per text. If left out, as for the teacher.")
    ] = None,
    layer_steps: Annotated[
        int, typer.Option(min=0, help="Steps of stage 1, which matches layers by mean squared error.")
    ] = 1000,
    layer_rate: Annotated[float, typer.Option(help="Learning rate of stage 1.")] = 5e-5,
    output_steps: Annotated[
        int, typer.Option(min=0, help="Steps of stage 2, which matches logits by soft cross-entropy.")
    ] = 500,
    output_rate: Annotated[float, typer.Option(help="Learning rate of stage 2.")] = 1e-5,
    point: Annotated[
        list[str],
        typer.Option(
            help="A value that stage 1 matches: scores, attention or hidden. May be given several times."
        ),
    ] = ["scores", "hidden"],  # noqa: B006
    label_weight: Annotated[
        float, typer.Option(help="Weight of a cross-entropy on labels, which stage 2 adds.")
    ] = 0.0,
    batch: Batch = 32,
    freeze: Freeze = [FROZEN],  # noqa: B006
    evaluate_every: Every = 100,
    patience: Annotated[
        int, typer.Option(min=1, help="A stage ends after this many validations without progress.")
    ] = 5,
    seed: Seed = 0,
    secure: Annotated[
        int, typer.Option(min=0, help="Number of test examples that three parties compute at the end.")
    ] = 64,
    resume: Resume = False,
) -> None:
    """Train a model through the secure program of a configuration, to answer as the float model does.

    The folder receives the weights, a calibration, the curves and result.json.
    """
    chosen = load_config(config)
    from ditto_spu.distill.corpora import wikitext as load_wikitext
    from ditto_spu.distill.distillation import distill as train
    from ditto_spu.distill.history import plot_curves, save_curves
    from ditto_spu.distill.settings import Distillation
    from ditto_spu.models import classifier, trained

    params, card = trained.load(teacher)
    length = length or card.length
    settings = Distillation(
        batch=batch,
        layer_steps=layer_steps,
        layer_rate=layer_rate,
        output_steps=output_steps,
        output_rate=output_rate,
        points=tuple(point),
        label_weight=label_weight,
        frozen=tuple(freeze),
        evaluate_every=evaluate_every,
        patience=patience,
        seed=seed,
    )
    task = load_task(card.task, data)
    texts = task.train if wikitext is None else load_wikitext(folder=wikitext).train
    training, validation, test = (
        classifier.examples(each, length) for each in (texts, task.validation, task.test)
    )
    with _bars() as show:
        done = train(
            classifier.classify,
            params,
            training,
            validation,
            chosen,
            settings,
            folder=out / "checkpoints",
            resume=resume,
            progress=show,
            public=("mask",),
        )
    trained.save(out, done.params, trained.Card(card.classes, length, card.texts, card.task, config))
    done.calibration.save(out / "calibration.json")
    save_curves(done.history, out)
    plot_curves(done.history, out / "history.svg")
    with _bars() as show:
        before = classifier.evaluated(params, test, chosen, progress=_plain(show))
        after = classifier.evaluated(
            done.params,
            test,
            chosen,
            reference=params,
            secure=secure,
            calibration=done.calibration,
            progress=_plain(show),
        )
    result = {"before": before.as_dicts(), "after": after.as_dicts(), "settings": vars(settings)}
    _write(out / "result.json", {"task": task.source, **result})


def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder that `ditto finetune` or `ditto distill` wrote.", show_default=False),
    ],
    config: Annotated[
        str | None,
        typer.Option(
            "--config", help="Configuration. If left out, the one the model was trained for, or ditto."
        ),
    ] = None,
    data: Data = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Folder of the model whose float accuracy is shown. If left out, this one."),
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=4, help="Tokens per text. If left out, as for the model.")
    ] = None,
    secure: Annotated[
        int, typer.Option(min=0, help="Number of test examples that three parties compute.")
    ] = 0,
    bounds: Annotated[
        int, typer.Option(min=0, help="For how many of these the error bound is computed.")
    ] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Examples per call.")] = 32,
    out: Annotated[Path | None, typer.Option(help="JSON file for the result.")] = None,
) -> None:
    """Measure accuracy on the test split: in float, in emulation and among three parties.

    With --bounds, the errors of the three parties are compared with the proven bound.
    """
    from ditto_spu.calibration.calibration import load_calibration
    from ditto_spu.models import classifier, trained

    params, card = trained.load(folder)
    chosen = load_config(config or card.config or "ditto")
    other = params if reference is None else trained.load(reference)[0]
    known = folder / "calibration.json"
    same = known.is_file() and (config is None or config == card.config)
    examples = classifier.examples(load_task(card.task, data).test, length or card.length)
    with _bars() as show:
        found = classifier.evaluated(
            params,
            examples,
            chosen,
            reference=other,
            secure=secure,
            bounds=bounds,
            batch=batch,
            calibration=load_calibration(known) if same else None,
            progress=_plain(show),
        )
    if out is not None:
        _write(out, found.as_dicts(), quiet=True)
    Console(width=100).print(found)


def load_task(name: str, folder: Path | None) -> Task:
    """Load a task by its name on the command line. Raises InputError for an unknown name."""
    from ditto_spu.distill.corpora import glue_task
    from ditto_spu.distill.stdlib_docstrings import docstring_task

    if name == "stdlib":
        return docstring_task(folder)
    kind, _, rest = name.partition(":")
    if kind != "glue":
        raise InputError(f"there is no task '{name}': take stdlib, or glue:NAME such as glue:sst2")
    return glue_task(rest, folder)


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int, Mapping[str, float]], None]]:
    """Show one progress bar per stage on the terminal, with the latest figures."""
    columns = (
        TextColumn("{task.description:<13}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=progress_console()) as progress:
        bars: dict[str, Any] = {}

        def show(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total, figures="")
            progress.update(bars[stage], completed=min(done, total))
            if figures:
                text = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
                progress.update(bars[stage], figures=text)

        yield show


def _plain(show: Callable[..., None]) -> Callable[[str, int, int], None]:
    return lambda what, done, total: show(what, done, total, {})


def _write(path: Path, result: Mapping[str, Any], quiet: bool = False) -> None:
    text = json.dumps(result, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    if not quiet:
        typer.echo(text)
