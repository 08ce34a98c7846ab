"""extender/workload/serving"""
