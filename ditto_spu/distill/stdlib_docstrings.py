"""Build a task without a download: tell which part of Python's standard library a docstring comes from.

The texts are the first paragraphs of the docstrings in the library of the running Python, in the order of its
files. The hash of a text decides its split. Another release of Python has a few other texts, but it moves no
text from one split to another.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from ditto_spu.distill.task import Split, Task
from ditto_spu.errors import InputError

GROUPS: Mapping[str, tuple[str, ...]] = {
    "windows": ("curses", "tkinter", "turtle"),
    "network": (
        *("cgi", "ftplib", "http", "imaplib", "ipaddress", "nntplib", "poplib", "smtplib", "socket"),
        *("socketserver", "ssl", "telnetlib", "urllib", "webbrowser", "wsgiref", "xmlrpc"),
    ),
    "mail": ("email", "mailbox", "mailcap", "mimetypes", "quopri"),
    "concurrency": (
        *("asyncio", "concurrent", "multiprocessing", "queue", "sched", "selectors", "subprocess"),
        *("threading", "_weakrefset", "contextvars", "signal"),
    ),
    "packages": (
        *("distutils", "ensurepip", "importlib", "modulefinder", "pkgutil", "runpy", "site", "sysconfig"),
        *("venv", "zipapp", "zipimport"),
    ),
    "diagnosis": (
        *("bdb", "cProfile", "cgitb", "doctest", "logging", "pdb", "profile", "pstats", "timeit", "trace"),
        *("traceback", "tracemalloc", "unittest", "warnings"),
    ),
    "numbers": (
        *("_pydatetime", "_pydecimal", "bisect", "calendar", "datetime", "decimal", "fractions", "heapq"),
        *("numbers", "random", "statistics", "zoneinfo"),
    ),
    "files": (
        *("_compression", "_pyio", "bz2", "filecmp", "fileinput", "genericpath", "glob", "gzip", "lzma"),
        *("ntpath", "os", "pathlib", "posixpath", "shutil", "stat", "tarfile", "tempfile", "zipfile"),
    ),
    "text": (
        *(
            "ast",
            "codecs",
            "configparser",
            "csv",
            "difflib",
            "encodings",
            "html",
            "inspect",
            "json",
            "lib2to3",
        ),
        *(
            "pickletools",
            "plistlib",
            "pprint",
            "pydoc",
            "re",
            "shlex",
            "string",
            "textwrap",
            "tokenize",
            "xml",
        ),
    ),
}
_OUTSIDE = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}
LEAST_WORDS = 4
_VALIDATION, _TEST = 10, 30  # percentages: texts below the first validate, texts below the second test


def docstring_task(library: Path | None = None) -> Task:
    """Build the task from the library of this Python, or from another folder of sources.

    The classes are the keys of GROUPS. Raises InputError if a class has no training text or if no text is
    left for testing.
    """
    library = library or Path(sysconfig.get_paths()["stdlib"])
    owner: dict[str, int] = {}
    for number, modules in enumerate(GROUPS.values()):
        owner |= dict.fromkeys(modules, number)
    labels: dict[str, int | None] = {}
    for file in _sources(library):
        top = file.relative_to(library).parts[0].removesuffix(".py")
        if top in owner:
            for text in _texts(file):
                # A text that occurs in two groups belongs to none.
                labels[text] = owner[top] if labels.get(text, owner[top]) == owner[top] else None
    kept = [(text, label) for text, label in labels.items() if label is not None]
    parts = {
        name: [row for row in kept if split_of(row[0]) == name] for name in ("train", "validation", "test")
    }
    if len({label for _, label in parts["train"]}) < len(GROUPS) or not parts["test"]:
        raise InputError(
            f"the sources of the standard library in '{library}' have too few docstrings ({len(kept)}): take "
            "a Python that is installed with its sources"
        )
    mark = hashlib.sha256("\n".join(f"{label} {text}" for text, label in kept).encode()).hexdigest()[:12]
    made = {name: Split(tuple(t for t, _ in rows), tuple(n for _, n in rows)) for name, rows in parts.items()}
    source = f"docstrings of Python {platform.python_version()}, {len(kept)} texts, {mark}"
    return Task("stdlib", tuple(GROUPS), made["train"], made["validation"], made["test"], source)


def split_of(text: str) -> str:
    """Return the split of a text: "train", "validation" or "test". It depends on the text alone."""
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100
    return "validation" if place < _VALIDATION else "test" if place < _TEST else "train"


def _sources(library: Path) -> Iterator[Path]:
    for file in sorted(library.rglob("*.py")):
        if not _OUTSIDE & set(file.relative_to(library).parts):
            yield file


def _texts(file: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old sources contain invalid escapes
            tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return  # skip templates and samples in other encodings
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            paragraph = (ast.get_docstring(node) or "").split("\n\n")[0]
            text = " ".join(paragraph.split())
            if len(text.split()) >= LEAST_WORDS and not text.startswith(">>>"):
                yield text
