"""extender/decision/cycle"""
