"""What tools/doctor.py looks at, a file a subject. Each check takes what was read and returns findings.

Lengths in the image are given at the network's width, since that is what training sees; thresholds are
shares of the width, so that they mean the same for any camera.
"""
