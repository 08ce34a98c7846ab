"""extender/server"""
