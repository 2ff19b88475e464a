"""Policies of memory in torch, with explicit collectives."""
