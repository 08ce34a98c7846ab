"""extender/decision/evaluate"""
