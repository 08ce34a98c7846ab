"""What is written to the API server: bindings, events, annotations that requeue pods, DeviceTaintRules."""
