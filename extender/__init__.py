"""What to do with a pod: the scheduler extender around `topology`.

    decision    pod and cluster -> verdicts (pure)
    settings    every setting, its unit and default
    live        the current snapshot: one writer, lock-free readers
    adapters    where cluster state comes from: kube watch, dump file, simulated
    web         the scheduler's verbs and the debug API
    service     puts the above together
    steering    `fabricwise steer`: which devices a container gets, between the kubelet and NVIDIA's plugin
    cli         the command line; demo, the show

`web` and `adapters` never import each other, and nothing in `decision` does I/O: import-linter checks both.
"""
