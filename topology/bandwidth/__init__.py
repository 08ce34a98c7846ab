"""topology/bandwidth"""
