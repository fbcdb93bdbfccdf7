"""Rich tables as plain text, for `print` and logs."""

from __future__ import annotations

from rich.console import Console, RenderableType


def printed(renderable: RenderableType, width: int = 200) -> str:
    """Return a Rich table as text without colours, `width` characters wide."""
    console = Console(width=width, no_color=True)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()
