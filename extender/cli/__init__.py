"""extender/cli"""
