"""The running agent: what it reads of the kubelet, publishes round by round, and says of itself."""
