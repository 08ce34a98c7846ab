"""extender/sources"""
