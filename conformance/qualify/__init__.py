"""Qualification: a vendor's chip runs the must-pass list, and hands over a package that a stranger can judge again.

`must_pass.py` is the list, `tree.py` and `system.py` are the facts of a run. `package.py` says which files a package
has, `derived.py` makes all of them that follow from the records, `archive.py` and `strict.py` read them without trust.
`rejudge.py` decides each case again from its figures, `verify.py` puts it together, `replay.py` runs a sample again.
`waivers.py` is what the suite's side signs.
"""
