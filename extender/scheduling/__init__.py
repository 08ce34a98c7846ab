"""extender/scheduling"""
