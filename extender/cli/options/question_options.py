"""The options of a command that answers a question about a cluster: which cluster, who answers, and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from extender.cli.asking import Target
from extender.cli.options.cluster_options import (
    ClusterOption,
    ConfigOption,
    ContextOption,
    ExtenderOption,
    KubeconfigOption,
    ServerOption,
    TokenFileOption,
)
from extender.cli.options.output_options import OutputOption
from extender.cli.reading import Reading, read_cluster
from extender.cli.rendering.console.output import Output
from extender.kube.listing import Collect
from extender.settings import Settings
from extender.settings_file import load_settings


@dataclass(frozen=True, slots=True)
class QuestionOptions:
    """What commands that ask the running extender, or read a cluster themselves, have in common."""

    cluster: ClusterOption = None
    server: ServerOption = None
    config: ConfigOption = None
    output: OutputOption = Output.TABLE
    kubeconfig: KubeconfigOption = None
    context_name: ContextOption = None
    extender: ExtenderOption = None
    token_file: TokenFileOption = None

    @property
    def target(self) -> Target:
        """Return where the command asks. Raises typer.BadParameter for options that exclude one another."""
        return Target(self.cluster, self.server, self.kubeconfig, self.context_name, self.extender, self.token_file)

    @property
    def is_kube(self) -> bool:
        """Return whether the cluster is an API server, not a file or a simulation."""
        return self.cluster in (None, "kube")

    def settings(self) -> Settings:
        """Return the settings of `--config`, or the defaults. Raises SettingsError."""
        return load_settings(self.config)

    def read(self, settings: Settings, classes: Path | None = None, collect: Collect | None = None) -> Reading:
        """Return one reading of the cluster. Raises ClusterSourceError."""
        return read_cluster(self.cluster or "kube", settings, self.kubeconfig, classes, collect, self.context_name)
