"""topology/devices"""
