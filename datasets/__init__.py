"""Datasets, one file each. `DATASETS.get(name)` finds one by its file's name."""

from utils import Registry

DATASETS = Registry("datasets")
