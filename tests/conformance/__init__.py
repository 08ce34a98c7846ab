"""What kube-scheduler 1.36 expects of an extender, case by case, over real HTTP. `test_every_case` holds the list together.

Cases that need a real kube-scheduler or API server are in `tests/cluster/scheduling/test_conformance.py`.
"""
