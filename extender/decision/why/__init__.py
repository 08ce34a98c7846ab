"""Why a pod is Pending, or why it is where it is and as fast as it is, and what would help. Pure.

scheduler_messages   kube-scheduler's messages, parsed
scheduler_reports    what kube-scheduler has reported of a pod: condition and events
pod_question         a question about a pod, and its evaluation on all nodes by kube-scheduler's filters and Fabricwise's
changed_pods         a pod with one requirement changed
remedies             REMEDIES: the table of functions that look for what would help
eviction_remedies    which pods to evict, and what that disrupts
dominant_reason      the one reason, and its sentence
running_pod          a bound pod: its GPUs, their bandwidth, its neighbours, and whether it would be placed better now
running_remedies     what would help a bound pod
why_pod              the answer

A remedy that says that the pod fits was evaluated, by the evaluation that the verbs use. Nothing here reads a clock: times are arguments.
"""
