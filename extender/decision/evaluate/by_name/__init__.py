"""Verdicts on the nodes that a request names, in arrays: a request has thousands of names. Pure.

node_names     the names of a request, with what has been looked up of all of them at once
name_index     name -> row, for thousands of names at once
node_verdicts  the verdicts of one evaluation, by column
node_table     the nodes of the newest snapshot as rows, and what differs between them as entries
verdict_table  one column of verdicts per demand, filled where a request needs them
"""
