"""Answers as text: tables, node cards, the demo's screen, SVG drawings, and the console that prints them.

Functions here take plain data (the same that `-o json` prints) and return renderables. They read no cluster and import no command.
"""
