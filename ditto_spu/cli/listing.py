"""Define `ditto models` and `ditto configs`, which list models and configurations."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ditto_spu.cli.options import Json, Network, OneConfig
from ditto_spu.cli.output import print_rows, progress_console
from ditto_spu.models import MODELS, NamedModel, named_model
from ditto_spu.rules.load import configurations, load_config


def models(
    cost: Annotated[
        list[str] | None,
        typer.Option(help="Compile this model and print the cost of a run. May be given several times."),
    ] = None,
    config: OneConfig = "ditto",
    network: Network = None,
    as_json: Json = False,
) -> None:
    """List the named models, or print the cost of some of them with --cost."""
    if cost:
        load_config(config)
        print_rows([_cost(named_model(name), config, network) for name in cost], as_json)
        return
    rows = [
        {
            "name": model.name,
            "parameters": model.parameters
            if as_json
            else f"{model.parameters:,}"
            if model.parameters
            else "",
            "description": model.description,
            "source": model.source,
        }
        for model in MODELS.values()
    ]
    print_rows(rows, as_json)


def _cost(model: NamedModel, config: str, network: str | None) -> dict[str, Any]:
    """Return the cost of a model's plan, derived from its protocols. The compiler needs shapes alone."""
    from ditto_spu.api import secure
    from ditto_spu.network.model import LAN, WAN

    with progress_console().status(f"{model.name}: compiling"):
        program = model.shapes()
        function = secure(program.fn, config=config, network=network, **program.options)
        found = function.lower(*program.args).cost_analysis()
    on_spu = sum(row.kind == "spu" for row in found.rows)
    sent = max(found.bytes_sent_per_party)
    seconds = [
        None if (predicted := found.predicted_seconds(each)) is None else round(predicted, 3)
        for each in (LAN, WAN)
    ]
    return {
        "name": model.name,
        "parameters": model.parameters,
        "MB of the busiest party": round(sent / 1e6, 3),
        "rounds": found.rounds,
        "steps": len(found.rows),
        "steps on SPU, not counted": on_spu,
        "LAN s, messages alone": seconds[0],
        "WAN s, messages alone": seconds[1],
    }


def configs(as_json: Json = False) -> None:
    """List the precision configurations that come with the package."""
    loaded = [load_config(name) for name in configurations()]
    rows = [
        {
            "name": config.name,
            "default": str(config.default_format),
            "rules": len(config.rules),
            "description": config.description,
        }
        for config in loaded
    ]
    print_rows(rows, as_json)
