"""The types of the debug API's answers, from which the OpenAPI document is made.

The answers themselves are plain data from `extender.decision.report` and `extender.web.debug_serializers`; tests/web compares every answer
with its type. A type forbids unknown fields, so that a new field of an answer must be added here.
"""
