"""Train a model through exactly the program that will be served (quantisation-aware distillation)."""

from ditto_spu.distill.corpora import glue_task, wikitext
from ditto_spu.distill.distillation import Distilled, distill
from ditto_spu.distill.evaluation import Evaluation, evaluate
from ditto_spu.distill.finetune import finetune
from ditto_spu.distill.settings import Distillation, FineTuning
from ditto_spu.distill.stdlib_docstrings import docstring_task
from ditto_spu.distill.task import Examples, Split, Task
from ditto_spu.distill.weights import load_weights, save_weights

__all__ = [
    "Distillation",
    "Distilled",
    "Evaluation",
    "Examples",
    "FineTuning",
    "Split",
    "Task",
    "distill",
    "docstring_task",
    "evaluate",
    "finetune",
    "glue_task",
    "load_weights",
    "save_weights",
    "wikitext",
]
