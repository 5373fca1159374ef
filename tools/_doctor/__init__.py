"""The checks of tools/doctor.py, one file per subject. Each check takes samples and returns findings.

Lengths in an image are reported at the network's width, which training uses. Thresholds are shares of the
width, so that they hold for any image size.
"""
