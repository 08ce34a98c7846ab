"""HTTP: decode, default, validate, call one service function, encode, measure.

Must not decide anything, change state, or import a source of cluster state.
"""
