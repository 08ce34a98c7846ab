"""extender/decision/report"""
