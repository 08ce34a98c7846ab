"""What exporters say of GPUs and serving engines, and what is made of it over time. Pure: text and times come in as data.

exposition  Prometheus text -> samples
signals     SIGNALS: which DCGM metric answers which question, in which unit
xids        which XID codes mean broken hardware, which a misbehaving program
readings    one look at a device, an instance of it, or a serving engine
dcgm        samples -> device readings
engines     samples -> engine readings
conditions  readings over time -> the condition of a device: smoothed, with hysteresis, fenced while faulty
answers     readings and conditions as plain data, for people
"""
