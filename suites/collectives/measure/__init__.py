"""Algorithms timed on emulated devices, beside what the model of the network predicts of them."""
