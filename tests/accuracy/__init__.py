"""How far off the bandwidth model and the prediction are: against NCCL's search, measurements, MAPA, NVIDIA's policy.

`make accuracy` prints the tables; `test_accuracy.py` holds them to the aims.
"""
