"""extender/collectors"""
