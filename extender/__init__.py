"""The scheduler extender. Which machine has which links is in `topology`; where a pod should go is decided here.

Packages, from the top; each imports only from lines below it (import-linter checks this, see pyproject.toml):

    __main__    the `fabricwise` command
    cli         one module per command, and how answers are printed
    server      assembles the HTTP server and the node agent's process
    steering    `fabricwise steer`: chooses devices between the kubelet and NVIDIA's device plugin
    web         HTTP: decodes a request, calls one function, encodes the answer
    sources     cluster state from files and simulation; workload classes and model files
    kube        the API server: list, watch, bind, events, Lease
    collectors  scrapes of exporters, serving engines and Prometheus
    scheduling  the cluster store, binding, requeueing, the decision log
    metrics     what /metrics shows
    decision    pod and snapshot -> verdicts; changes -> snapshot (pure)
    telemetry   expositions -> readings and conditions of devices (pure)
    workload    model files -> memory that a model needs (pure)

Modules: `settings_file`, `settings_contradictions` and `settings` read and define settings; `loading` parses JSON and YAML;
`pod_templates` finds pods in workload manifests (pure); `errors` has the exceptions that a user sees; `logs` and `plain_text` (pure)
format log lines and text from outside. Pure modules have no I/O, clock, thread, logging or randomness.
"""
