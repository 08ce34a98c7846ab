"""extender/cli/commands"""
