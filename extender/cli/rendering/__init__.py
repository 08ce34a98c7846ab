"""Answers as text: tables, node cards, the demo's screen, SVG drawings, and the console that prints them.

console       the console and its output formats, tables that fit the terminal, progress, `--watch`
answers       one module per question: its answer as tables or text
machines      one machine: its topology as data, tables and a drawing
demo_screen   the screen of `fabricwise demo`

Functions here take plain data (the same that `-o json` prints) and return renderables. They read no cluster and import no command.
"""
