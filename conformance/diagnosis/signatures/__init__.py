"""Signatures: known mistakes, recognised in a tensor that diverges, by its numbers alone."""
