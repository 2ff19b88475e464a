"""Programs of production size, compiled and never run: what a device holds, what it sends, whether it fits."""
