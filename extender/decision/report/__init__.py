"""Decisions, nodes and outcomes as plain data and text, for the debug API, the command line, events and annotations. Pure.

serializers          explanations, nodes and assumed pods as JSON data
checks               a node's report: CHECKS, each with evidence and remedy, and the answers of its readiness
live                 rows of nodes and pods, and a machine as a graph, for the live view
placement_record     the record of a decision that is written to the pod
prediction_outcomes  what pods were allocated, compared with the prediction
device_faults        devices that telemetry has excluded, as DeviceTaintRules

This is the top of `extender.decision`: no other package of it may import this one. No client, clock, thread, log or settings loader is
imported here.
"""
