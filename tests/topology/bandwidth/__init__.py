"""The bandwidth of GPU sets: known figures and laws."""
