"""extender/kube"""
