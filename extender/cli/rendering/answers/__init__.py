"""Answers about pods and clusters as text: one module per question. The input is the plain data that `-o json` prints."""
