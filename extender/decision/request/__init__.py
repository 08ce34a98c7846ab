"""extender/decision/request"""
