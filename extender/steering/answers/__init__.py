"""The choice for one request within its time limit, from what the agent, the API server and the kubelet say now."""
