"""Run the command `ditto` with `python -m ditto_spu.cli`."""

from ditto_spu.cli import app

app()
