"""Metrics of GPUs and serving engines, and the state of devices that follows from them over time.

Pure: text and times are arguments; no scraping, clock, settings or cluster. Imports point down the list.

    telemetry_serializers  readings and conditions as plain data, for people
    conditions             readings over time -> the condition of a device: smoothed, with hysteresis, fenced while faulty
    dcgm                   samples -> device readings
    engines                samples -> engine readings
    signals                SIGNALS: which DCGM metric fills which field, in which unit
    xids                   which XID codes mean broken hardware and which an application error
    readings               one reading of a device, of a MIG instance or of a serving engine
    exposition             Prometheus text -> samples
"""
