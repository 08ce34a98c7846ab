"""Answers of the extender on many drawn clusters, kept in a file, so that two versions of the code can be compared answer by answer.

clusters   a seed -> the objects of a cluster, its telemetry and the requests made of it
answers    a cluster -> every answer of the extender over HTTP, without times
__main__   `write FILE` and `compare BEFORE AFTER`
"""
