"""Prediction on files: images, frame sets of a rig, and videos in; depth arrays, images, clouds, videos out.

`test_simple.py` and `test_video.py` are the command lines of this folder.
"""
