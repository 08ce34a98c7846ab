"""`fabricwise telemetry`: what the extender reads from an exposition, for debugging a scrape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.options.cluster_options import ConfigOption
from extender.cli.options.output_options import OutputOption
from extender.cli.rendering.console.fitted_tables import Column, FittedTable
from extender.cli.rendering.console.output import Output, print_answer
from extender.errors import ClusterSourceError
from extender.server.from_settings import tuning
from extender.settings_file import load_settings
from extender.sources.dump import read_text
from extender.telemetry.telemetry_serializers import not_understood, read


def telemetry(
    what: Annotated[str, typer.Argument(metavar="FILE|URL", help="Exposition: a file (- is standard input) or a URL.")],
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what the extender reads from a DCGM or serving-engine exposition, per device and instance."""
    settings = load_settings(config)
    if what.startswith(("http://", "https://")):
        text = _fetched(what, settings.telemetry.timeout_seconds)
    else:
        text = read_text(Path(what))
    answer = read(text, tuning(settings))
    if not answer["devices"] and not answer["engines"]:
        raise ClusterSourceError(f"{what}: {not_understood(text)}")
    print_answer(answer, output, table, names=_names)


def _names(answer: Mapping[str, Any]) -> list[str]:
    """Return the devices of an exposition by UUID, a MIG device with its instance, and the serving engines."""
    devices = [
        f"gpu/{device['uuid']}" + ("" if device["mig_instance"] is None else f"/mig-{device['mig_instance']}")
        for device in answer["devices"]
    ]
    return devices + [f"engine/{engine['engine']}" + (f"/{engine['model']}" if engine["model"] else "") for engine in answer["engines"]]


def _fetched(url: str, timeout_seconds: float) -> str:
    try:
        response = httpx.get(url, timeout=timeout_seconds, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClusterSourceError(
            f"{url}: {error or type(error).__name__}. Check the address, the port and the network "
            "(`kubectl port-forward` makes a pod's port local)"
        ) from error
    if response.status_code != 200:
        raise ClusterSourceError(f"{url} answered {response.status_code}, not 200: give the path of the metrics page, usually /metrics")
    return response.text


def table(answer: Mapping[str, Any]) -> RenderableType:
    """Return the tables of devices and engines, and the lines that could not be read."""
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
    rows = FittedTable(DEVICES, title="devices")
    for device in devices:
        mig = "-" if device["mig_instance"] is None else f"{device['mig_instance']} {device['mig_profile'] or ''}".strip()
        busy = device["utilization"] if device["utilization"] is not None else device["engine_active"]
        healthy = {True: Text("yes", "green"), False: Text("NO", "bold red"), None: Text("unknown", "yellow")}[device["healthy"]]
        cells = (
            _shown(device["index"], "{}"),
            device["uuid"],
            mig,
            _shown(device["fb_used_bytes"], "{:.1f}", 2**30),
            _shown(device["fb_free_bytes"], "{:.1f}", 2**30),
            _shown(busy, "{:.0%}"),
            _shown(device["temperature_celsius"], "{:.0f}"),
            _shown(device["power_watts"], "{:.0f}"),
            _shown(device["xid"], "{}"),
            healthy,
            f"{len(device['unknown'])} fields",
        )
        rows.add(cells)
    return rows


def _engines(engines: list[dict[str, Any]]) -> FittedTable:
    rows = FittedTable(ENGINES, title="serving engines")
    for engine in engines:
        waiting, running = _shown(engine["requests_waiting"], "{:.0f}"), _shown(engine["requests_running"], "{:.0f}")
        rows.add((engine["engine"], engine["model"] or "-", _shown(engine["kv_cache_usage"], "{:.0%}"), waiting, running))
    return rows


def _shown(value: Any, form: str, unit: float = 1) -> str:
    return "?" if value is None else form.format(value / unit if unit != 1 else value)
