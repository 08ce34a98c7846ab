"""The command line: `app` registers the commands; `commands` has one module per command; `options` has what they share of their options;
`rendering` turns answers into text.

`reading` reads a cluster once, for a command that answers one question: it imports no module that can write to the cluster. Commands
print through `rendering.console` and raise errors of `extender.errors`. No other package imports this one, except `extender.__main__`.
"""
