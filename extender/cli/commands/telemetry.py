"""`fabricwise telemetry`: what the extender reads from an exposition, to debug a scrape with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.rendering.output import ConfigOption, Output, OutputOption, print_answer
from extender.cli.rendering.tables import Column, FittedTable
from extender.errors import ClusterSourceError
from extender.server.from_settings import tuning
from extender.settings_file import load_settings
from extender.sources.dump import read_text
from extender.telemetry.telemetry_serializers import not_understood, read


def telemetry(
    what: Annotated[str, typer.Argument(metavar="FILE|URL", help="An exposition: a file (- is standard input), or where it is served.")],
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What the extender reads from a DCGM or serving-engine exposition, per device and instance."""
    settings = load_settings(config)
    if what.startswith(("http://", "https://")):
        text = _fetched(what, settings.telemetry.timeout_seconds)
    else:
        text = read_text(Path(what))
    answer = read(text, tuning(settings))
    if not answer["devices"] and not answer["engines"]:
        raise ClusterSourceError(f"{what}: {not_understood(text)}")
    print_answer(answer, output, table)


def _fetched(url: str, timeout_seconds: float) -> str:
    try:
        response = httpx.get(url, timeout=timeout_seconds, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClusterSourceError(
            f"{url}: {error or type(error).__name__}. Check the address and the port, and that it is reached from here "
            "(`kubectl port-forward` makes a pod's port local)"
        ) from error
    if response.status_code != 200:
        raise ClusterSourceError(f"{url} answered {response.status_code}, not 200: give the path of the metrics page, mostly /metrics")
    return response.text


def table(answer: Mapping[str, Any]) -> RenderableType:
    """Devices, engines, and what could not be read."""
    parts: list[RenderableType] = []
    if answer["devices"]:
        parts.append(_devices(answer["devices"]))
    if answer["engines"]:
        parts.append(_engines(answer["engines"]))
    parts += [Text(f"not read: {problem}", style="yellow") for problem in answer["problems"]]
    return Group(*parts)


DEVICES = (
    Column("GPU", 0, is_number=True),
    Column("UUID", 4, least_width=12),
    Column("MIG", 5),
    Column("used GiB", 9, is_number=True),
    Column("free GiB", 8, is_number=True),
    Column("busy", 6, is_number=True),
    Column("C", 2, is_number=True),
    Column("W", 2, is_number=True),
    Column("XID", 7, is_number=True),
    Column("healthy", 0),
    Column("unknown", 1),
)
ENGINES = (
    Column("engine", 0),
    Column("model", 1, least_width=12),
    Column("KV cache", 3, is_number=True),
    Column("waiting", 4, is_number=True),
    Column("running", 2, is_number=True),
)


def _devices(devices: list[dict[str, Any]]) -> FittedTable:
    found = FittedTable(DEVICES, title="devices")
    for one in devices:
        mig = "-" if one["mig_instance"] is None else f"{one['mig_instance']} {one['mig_profile'] or ''}".strip()
        busy = one["utilization"] if one["utilization"] is not None else one["engine_active"]
        healthy = {True: Text("yes", "green"), False: Text("NO", "bold red"), None: Text("unknown", "yellow")}[one["healthy"]]
        cells = (
            _shown(one["index"], "{}"),
            one["uuid"],
            mig,
            _shown(one["fb_used_bytes"], "{:.1f}", 2**30),
            _shown(one["fb_free_bytes"], "{:.1f}", 2**30),
            _shown(busy, "{:.0%}"),
            _shown(one["temperature_celsius"], "{:.0f}"),
            _shown(one["power_watts"], "{:.0f}"),
            _shown(one["xid"], "{}"),
            healthy,
            f"{len(one['unknown'])} fields",
        )
        found.add(cells)
    return found


def _engines(engines: list[dict[str, Any]]) -> FittedTable:
    found = FittedTable(ENGINES, title="serving engines")
    for one in engines:
        waiting, running = _shown(one["requests_waiting"], "{:.0f}"), _shown(one["requests_running"], "{:.0f}")
        found.add((one["engine"], one["model"] or "-", _shown(one["kv_cache_usage"], "{:.0%}"), waiting, running))
    return found


def _shown(value: Any, form: str, unit: float = 1) -> str:
    return "?" if value is None else form.format(value / unit if unit != 1 else value)
