"""The journal: what decisions were made from, line by line, and how they are made again from it. Pure.

kept_objects        what a decision reads of each kind of object; all else is left out
journal_lines       the format, version 1: JSON lines
journal_writer      moments and decisions -> lines
rebuilt_state       lines -> snapshots
journal_reader      bytes -> lines, within bounds
decided_nodes       what was decided per node, in a form that can be written and compared
replayed_decisions  a journal and a configuration -> which decisions are identical
snapshot_archive    a journal in a zip file, as a stream in both directions

This package must not import a client, clock, thread, log or settings loader: times, keys and settings are arguments.
"""
