"""The Kubernetes API server: list, watch and decode objects, bind pods, post events, hold the Lease, run the smoke test.

Only this package imports the `kubernetes` client and `urllib3`; none of their exceptions leaves it. It imports no server, web, source or
command module.
"""
