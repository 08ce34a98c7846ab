"""`fabricwise serve`: the extender as an HTTP server."""

from __future__ import annotations

from typing import Annotated

import typer

from extender.cli.options.cluster_options import ClassesOption, ClusterOption, ConfigOption, ContextOption, KubeconfigOption
from extender.errors import SettingsError
from extender.logs import log_to_stderr
from extender.server.cluster_source import open_service
from extender.server.http_servers import serve_debug, serve_health, server_for, settle_process
from extender.settings_file import load_settings
from extender.sources.class_file import ClassFile

app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]}, rich_markup_mode=None, add_completion=False)


@app.command()
def serve(
    cluster: ClusterOption = None,
    config: ConfigOption = None,
    host: Annotated[str, typer.Option("--host")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8888,
    kubeconfig: KubeconfigOption = None,
    context_name: ContextOption = None,
    workload_classes: ClassesOption = None,
) -> None:
    """Serve the scheduler verbs and the debug API, by default for the cluster of the kubeconfig's current context."""
    settings = load_settings(config)
    for name, other in (("health_port", settings.server.health_port), ("debug_port", settings.server.debug_port)):
        if port and other == port:
            raise SettingsError(f"server.{name} and --port are both {port}: set one of them to another port")
    log_to_stderr(settings.server.log_level)
    fed = open_service(cluster or "kube", settings, kubeconfig, context_name)
    service = fed.service
    class_file = ClassFile(workload_classes, service.store, service.supervisor) if workload_classes else None
    settle_process(service)
    fed.start()
    if class_file is not None:
        class_file.start()
    try:
        server = server_for(service, host, port)
        serve_health(service, host)
        serve_debug(service, host)
        server.run()
    finally:
        fed.stop()
