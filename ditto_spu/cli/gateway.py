"""Define `ditto gateway`: a model behind the interface of OpenAI, on the client's own machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ditto_spu.cli.options import Client, Conversation, Guesses, OneConfig, Ranges, Weights, room_for
from ditto_spu.cluster.client.client import connect
from ditto_spu.errors import InputError
from ditto_spu.models import named_model
from ditto_spu.models.minilm import model_folder
from ditto_spu.rules.load import load_config

_PACKAGED = {"minilm": model_folder}  # models whose checkpoint lies in an installed package


def gateway(
    model: Annotated[
        str,
        typer.Option(
            help="Name that callers give, and a checkpoint, 'minilm' or a decoder from `ditto models`.",
            show_default=False,
        ),
    ],
    weights: Weights = None,
    cluster: Annotated[
        Path | None, typer.Option(help="Cluster file. Without it three parties are simulated here.")
    ] = None,
    client: Client = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8008,
    length: Conversation = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="Public system message of all conversations. Its cache is computed in plaintext, once."
        ),
    ] = None,
    drafts: Guesses = 0,
    calibration: Ranges = None,
    config: OneConfig = "auto",
) -> None:
    """Serve chat completions or embeddings under MPC to programs of this machine, which use a base_url."""
    try:
        from ditto_spu.gateway.app import Gateway, app
        from ditto_spu.gateway.serve import LOOPBACK, listen, server
    except ImportError:
        raise InputError("the gateway needs more packages: run `pip install ditto-spu[gateway]`") from None
    options = {"config": load_config(config), "calibration": calibration}
    name, served = _served(model, weights, cluster, client, length, prefix, drafts, options)
    listening = listen(port)
    typer.echo(f"model '{name}' at base_url http://{LOOPBACK}:{listening.getsockname()[1]}/v1", err=True)
    server(app(Gateway(name, served))).run(sockets=[listening])


def _served(
    model: str,
    weights: Path | None,
    cluster: Path | None,
    client: str | None,
    length: int | None,
    prefix: str | None,
    drafts: int,
    options: dict[str, Any],
) -> tuple[str, Any]:
    """Return the name under which a model is served, and what serves it."""
    from ditto_spu.gateway.answerer import Answerer
    from ditto_spu.gateway.embedder import embedder
    from ditto_spu.generation.drafts import Drafts
    from ditto_spu.generation.generator import Generator
    from ditto_spu.models import own
    from ditto_spu.models.loaded import load

    name, place = model, weights
    if place is None and model in _PACKAGED:
        place = _PACKAGED[model]()
    elif place is None:
        name, place = named_model(model).name, Path(model)
        if not place.exists():
            raise InputError(f"model '{model}' has no tokenizer of its own: give a checkpoint by --weights")
    loaded = load(place)
    connected = None if cluster is None else connect(cluster, client)
    if loaded.decoder is None:
        return name, embedder(loaded, connected, **options)
    text = own.text(loaded)
    if text.tokenizer is None:
        raise InputError(f"{place} holds no tokenizer: save tokenizer.json beside its weights")
    room = room_for(length, text.decoder.positions)
    opening = None if prefix is None else text.tokenizer.opening(prefix)
    generator = Generator(
        text.decoder, text.params, length=room, prefix=opening, cluster=connected, **options
    )
    return name, Answerer(generator, text.tokenizer, Drafts(drafts) if drafts else None, prefix)
