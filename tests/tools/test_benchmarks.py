"""Benchmarks refuse settings that cannot work before they render anything."""

import json

import pytest

from benchmarks import prepare_cityscapes, trainer
from utils import InputError


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--frames 4", "--frames 5 or more"),
        ("--frames 0", "--frames 5 or more"),
        ("--workers 0", "--workers must be 1 or more"),
        ("--recordings 1 --frames 5", "one sample cannot be timed; give --recordings 2, or --frames 6"),
    ],
)
def test_cityscapes_of_too_few_frames_are_refused_at_once(words, sentence, monkeypatch):
    monkeypatch.setattr(prepare_cityscapes, "draw", lambda *_: pytest.fail("drew before the check"))
    with pytest.raises(InputError, match=sentence):
        prepare_cityscapes.main(words.split())
    with pytest.raises(pytest.fail.Exception):
        prepare_cityscapes.main(["--recordings", "1", "--frames", "6"])


# ---------------------------------------------------------------------------------- the published trainer

CHECKOUT = {  # what benchmarks/_published_trainer.py uses of Monodepth2's repository
    "options.py": """
import argparse
class MonodepthOptions:
    def __init__(self):
        self.parser = argparse.ArgumentParser()
        for name in ("--data_path", "--weights_init", "--log_dir"):
            self.parser.add_argument(name)
        for name in ("--height", "--width", "--batch_size", "--num_workers", "--num_epochs"):
            self.parser.add_argument(name, type=int)
        for name in ("--no_cuda", "--png"):
            self.parser.add_argument(name, action="store_true")
""",
    "trainer.py": """
import time
import numpy as np
from PIL import Image
from torchvision import transforms
def readlines(path):
    raise OSError(path)
class Optimizer:
    def step(self):
        time.sleep(0.02)
class Trainer:
    def __init__(self, options):
        self.options = options
        assert readlines("splits/eigen_zhou/train_files.txt") == ["train 1 l"]
        assert readlines("splits/eigen_zhou/val_files.txt") == ["val 2 r"]
        self.model_optimizer = Optimizer()
    def val(self):
        raise AttributeError("next")
    def train(self):
        image = Image.new("RGB", (8, 8), (200, 90, 30)).resize((4, 4), Image.ANTIALIAS)
        while True:
            self.val()
            jitter = transforms.ColorJitter.get_params((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.1, 0.1))
            assert jitter(image).size == (4, 4) and np.int(2.7) == 2
            self.model_optimizer.step()
""",
}


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "monodepth2"
    folder.mkdir()
    for name, text in CHECKOUT.items():
        (folder / name).write_text(text)
    (tmp_path / "train_files.txt").write_text("train 1 l\n")
    (tmp_path / "val_files.txt").write_text("val 2 r\n")
    return folder


def timed(checkout, **changes):
    words = f"--data_path {checkout} --split {checkout.parent} --published {checkout} --steps 3"
    args = trainer.parse(words.split())
    vars(args).update(changes)
    return trainer.published(args, checkout.parent / "published.json")


def test_the_steps_of_a_published_trainer_are_timed(checkout):
    assert 0.02 <= timed(checkout) < 2
    assert len(json.loads((checkout.parent / "published.json").read_text())) == 5  # two of them warm up


def test_a_folder_without_the_published_trainer_is_refused(checkout, tmp_path):
    with pytest.raises(InputError, match=r"has no trainer\.py; it is a checkout of Monodepth2"):
        timed(checkout, published=tmp_path)
    (checkout / "trainer.py").write_text("import a_library_of_2019")
    with pytest.raises(InputError, match=r"published trainer stopped: .*No module named 'a_library_of_2019'"):
        timed(checkout)


def test_each_program_has_its_turns(checkout, monkeypatch, capsys):
    monkeypatch.setattr(trainer, "ours", lambda args, own, run: 0.5)
    monkeypatch.setattr(trainer, "published", lambda args, record: 1.0)
    trainer.main(f"--data_path {checkout} --split {checkout} --published {checkout}".split())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if line.endswith("x")] == ["1.00x", "2.00x", "2.00x", "2.00x"]
