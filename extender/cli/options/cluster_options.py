"""The options that name a cluster, what is in it, and the running extender; and the settings and workload classes that count."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from extender.cli.options.completed_values import complete_cluster, complete_context, complete_namespace, complete_node

CLUSTERS = "kube (the kubeconfig's current context; in a pod, its own cluster), simulated, or a dump file (- is standard input)."
ClusterOption = Annotated[str | None, typer.Option("--cluster", help=f"{CLUSTERS} Default: kube.", autocompletion=complete_cluster)]
OptionalClusterOption = Annotated[str | None, typer.Option("--cluster", help=CLUSTERS, autocompletion=complete_cluster)]
ServerOption = Annotated[str | None, typer.Option("--server", help="Ask a running extender at this URL instead of a cluster.")]
ExtenderOption = Annotated[
    str | None,
    typer.Option(
        "--extender",
        metavar="NAMESPACE/NAME",
        help="Service of the running extender, which is asked first; [https:]NAMESPACE/NAME[:PORT], or none. "
        "Default: fabricwise-system/fabricwise.",
    ),
]
TokenFileOption = Annotated[Path | None, typer.Option("--token-file", help="File with the bearer token that the extender asks for.")]
KubeconfigOption = Annotated[
    str | None, typer.Option("--kubeconfig", help="Kubeconfig file whose current context is the cluster. Default: the usual one.")
]
ContextOption = Annotated[
    str | None,
    typer.Option("--context", help="Context of the kubeconfig. Default: its current one.", autocompletion=complete_context),
]
"""The parameter is called `context_name`, because completion reads it by this name, and `fit --context` is a number of tokens."""
NamespaceOption = Annotated[
    str | None,
    typer.Option("-n", "--namespace", help="Namespace. Default: that of the kubeconfig's context.", autocompletion=complete_namespace),
]
AllNamespacesOption = Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces.")]
ClassesOption = Annotated[Path | None, typer.Option("--workload-classes", help="Classes file; see config/workload-classes.yaml.")]
NodeArgument = Annotated[str, typer.Argument(help="The node.", autocompletion=complete_node)]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; see config/extender.yaml.")]
