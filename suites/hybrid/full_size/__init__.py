"""The programs of the standing shapes at their full size: compiled on emulated devices, never run."""
