"""topology/machine"""
