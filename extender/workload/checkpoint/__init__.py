"""extender/workload/checkpoint"""
