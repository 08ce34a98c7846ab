"""Options that several commands have in common, each defined once.

cluster_options    which cluster, which extender, which settings and classes
output_options     how an answer is printed, and whether again
question_options   the group of all options that commands which answer a question have in common
option_groups      a group of options as one parameter of a command
completed_values   the values that a shell completes
"""
