"""extender/decision/state"""
