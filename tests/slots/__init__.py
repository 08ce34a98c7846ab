"""Slots, and advice on moves that regain them."""
