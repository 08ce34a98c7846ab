"""extender/cli/rendering"""
