"""extender/workload/architecture"""
