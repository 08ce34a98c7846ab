"""Decisions, nodes and outcomes as plain data and text, for the debug API, the command line, events and annotations. Pure.

serializers          explanations, nodes and assumed pods as JSON data
node_checks          CHECKS: a node's report, check by check with evidence and remedy
node_subject         the node under check, and the survey of the cluster it is compared with
readiness            a node's baseline and readiness, as questions and answers
engine_support       serving engines and number formats by compute capability
reported_versions    driver and CUDA versions as reported
placement_record     the record of a decision that is written to the pod
prediction_outcomes  what pods were allocated, compared with the prediction

This is the top of `extender.decision`: no other package of it may import this one. No client, clock, thread, log or settings loader is
imported here.
"""
