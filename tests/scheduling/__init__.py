"""The service of the verbs, binding, requeueing, events, supervision, and the HTTP surface."""
