"""Parts of tools/report.py: files of a run read, images and clouds of its model, charts, the page."""
