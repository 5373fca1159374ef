"""Tables of results: declarations, resuming, bands, and the page that holds them."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks import _runs, results
from benchmarks._numbers import Numbers, cell, differences, load_numbers, markdown, replace_section, section
from benchmarks.tables import adaptation
from benchmarks.tables._evaluate import relative_error
from benchmarks.tables._spec import Claim, Column, Start, Table, with_folders
from benchmarks.tables._worlds import (
    WORLDS,
    describe,
    make_speed_worse,
    move_away,
    other_weather,
    pseudo_depth,
)
from benchmarks.tables.completion import roughness
from checkpoints import Checkpoint, save_checkpoint
from options import effective, parse
from utils import PROJECT, InputError

NAMES = results.table_names()
MEASURED = [name for name in NAMES if (results.TABLES / f"{name}.json").is_file()]


def small_table(**changes):
    table = Table(
        title="Two rows",
        text="One is better.",
        common={"height": 64, "data_path": "@rooms"},
        runs={"one": {}, "two": {"encoder": "resnet18"}},
        evaluate=lambda run: {run.row: {"abs_rel": 0.1 if run.row == "one" else 0.3}},
        columns={"abs_rel": Column("abs_rel"), "seconds": Column("s", banded=False)},
        claims=[Claim("one is better", lambda rows: rows["one"]["abs_rel"] < rows["two"]["abs_rel"])],
        steps=12,
    )
    return dataclasses.replace(table, **changes)


def numbers_of(one, two):
    numbers = Numbers("abc", minutes={"one": {0: 1.5}})
    for row, values in (("one", one), ("two", two)):
        for seed, value in enumerate(values):
            numbers.add(seed, {row: {"abs_rel": value, "seconds": 1.0 + seed}})
    return numbers


# ------------------------------------------------------------------------------------------- declarations


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_a_table_is_a_valid_command(name, tmp_path):
    table = results.load_table(name)
    folders = {world: tmp_path / world for world in WORLDS}
    for row in table.runs:
        options = with_folders(table.options(row), folders)
        chosen = effective(parse(_runs.flags({**options, "log_dir": tmp_path, "model_name": "x"})))
        assert chosen["max_steps"] == chosen["num_epochs"] * chosen["steps_per_epoch"] <= table.steps
        assert "@" not in str(chosen)
    assert set(table.worlds()) <= set(WORLDS) and describe(table.worlds())


def test_equal_options_share_a_run_and_others_do_not():
    table = small_table()
    assert table.run_name("one", 0) == small_table(text="other words").run_name("one", 0)
    assert table.run_name("one", 0) != small_table(steps=24).run_name("one", 0)
    assert table.digest != small_table(common={"height": 96}).digest


def test_rows_of_a_table_start_from_the_same_weights(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(_runs, "call", lambda *words: calls.append(words) or 1.0)
    monkeypatch.setattr(_runs, "check_finished", lambda folder, steps: folder.mkdir(parents=True))
    start = Start({"height": 64, "data_path": "@rooms"}, models="encoder pose", steps=5, seed=7)
    table = small_table(start=start)
    folders = {"rooms": tmp_path / "rooms"}
    for row in table.runs:
        _runs.train(table, row, 0, folders, tmp_path)
    first, one, two = (" ".join(map(str, words)) for words in calls)  # the start is trained once
    assert "--seed 7" in first and "--max_steps 5" in first and "--load_weights_folder" not in first
    for words in (one, two):
        assert f"--load_weights_folder {tmp_path / 'runs' / start.run_name}" in words
        assert "--models_to_load encoder pose" in words
    longer = small_table(start=dataclasses.replace(start, steps=6))
    assert table.digest != longer.digest and table.run_name("one", 0) != longer.run_name("one", 0)


def test_an_unknown_table_is_refused():
    with pytest.raises(InputError, match="there is no table 'sgdept'; did you mean 'sgdepth'"):
        results.load_table("sgdept")


def test_the_list_names_every_table(capsys):
    results.main(["--list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == NAMES


# ------------------------------------------------------------------------------------------------ resuming


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Commands that `call` would have run; a run leaves a checkpoint with `commands.steps` steps."""
    ran = Commands()

    def call(*words):
        ran.append(words)
        if words[0] == "run.py":
            folder = tmp_path / "runs" / words[words.index("--model_name") + 1]
            save_checkpoint(
                folder / "checkpoints/last.pt", Checkpoint({"w": torch.ones(1)}, training={"step": ran.steps})
            )
        else:
            Path(words[words.index("--out") + 1]).mkdir(parents=True)
        return 512.0

    monkeypatch.setattr(_runs, "call", call)
    return ran


class Commands(list):
    steps = 12


def test_a_finished_run_is_not_trained_again(commands, tmp_path):
    table, worlds = small_table(), {"rooms": tmp_path}
    folder = _runs.train(table, "one", 0, worlds, tmp_path).folder
    _runs.train(table, "one", 0, worlds, tmp_path)
    _runs.train(table, "one", 1, worlds, tmp_path)
    assert len(commands) == 2 and _runs.peak_memory(folder) == 512 and _runs.minutes(folder) >= 0
    assert {"--resume", "auto", "--seed", str(tmp_path)} <= set(commands[0])


def test_a_stopped_run_is_not_finished(commands, tmp_path):
    table, worlds = small_table(), {"rooms": tmp_path}
    commands.steps = 7
    with pytest.raises(InputError, match="stopped after 7 of 12 steps; run it again to continue"):
        _runs.train(table, "one", 0, worlds, tmp_path)
    commands.steps = 12
    _runs.train(table, "one", 0, worlds, tmp_path)
    assert len(commands) == 2


def test_a_world_is_rendered_once_and_again_if_it_changes(commands, tmp_path, monkeypatch):
    _runs.render("rooms", tmp_path, tmp_path)
    _runs.render("rooms", tmp_path, tmp_path)
    assert len(commands) == 1 and "nyuv2" in commands[0]
    other = dataclasses.replace(WORLDS["rooms"], flags={**WORLDS["rooms"].flags, "frames": 4})
    monkeypatch.setitem(WORLDS, "rooms", other)
    _runs.render("rooms", tmp_path, tmp_path)
    assert len(commands) == 2


def test_a_recording_is_found_or_asked_for(tmp_path, capsys):
    with pytest.raises(InputError, match=r"needs the recording .*kitti_odom_gray; see --recordings"):
        _runs.render("snippet", tmp_path, tmp_path)
    assert not results.has_recordings("kitti_snippet", tmp_path) and results.has_recordings("demo", tmp_path)
    assert "kitti_snippet: left out, since" in capsys.readouterr().out
    (tmp_path / "kitti_odom_gray").mkdir()
    assert _runs.render("snippet", tmp_path, tmp_path) == tmp_path / "kitti_odom_gray"
    assert results.has_recordings("kitti_snippet", tmp_path)


def test_known_seeds_are_kept_unless_settings_changed(commands, tmp_path):
    table = small_table()
    known = Numbers(table.digest)
    for row in table.runs:
        known.add(7, {row: {"abs_rel": 0.5}})
    assert results.measure("x", table, [0], {"rooms": tmp_path}, tmp_path, known).seeds == [0, 7]
    known.settings = "other"
    assert results.measure("x", table, [0], {"rooms": tmp_path}, tmp_path, known).seeds == [0]


# --------------------------------------------------------------------------------------- numbers and bands


def test_a_cell_is_the_mean_and_half_the_range():
    assert cell([0.1, 0.2, 0.6], 3) == "0.300 ± 0.250"
    assert cell([7.0], 1) == "7.0" and cell([7.0, 7.0], 1) == "7.0" and cell([], 3) == "-"


def test_a_table_is_written_as_markdown():
    text = markdown({"one": {"a": [1.0, 2.0]}, "two": {}}, {"a": Column("A", 1)})
    assert text.splitlines() == ["| | A |", "| --- | --- |", "| one | 1.5 ± 0.5 |", "| two | - |"]


def test_numbers_survive_their_file(tmp_path):
    numbers = numbers_of([0.1, 0.123456789], [0.3, 0.4])
    numbers.save(tmp_path / "x.json")
    again = load_numbers(tmp_path / "x.json")
    assert again.rows["one"][1]["abs_rel"] == 0.123457 and again.seeds == [0, 1]
    assert load_numbers(tmp_path / "y.json") is None


def test_a_number_outside_its_band_is_reported():
    committed = numbers_of([0.10, 0.11, 0.12], [0.30, 0.30, 0.30])
    assert differences(small_table(), committed, numbers_of([0.13] * 3, [0.31] * 3)) == []
    found = differences(small_table(), committed, numbers_of([0.15] * 3, [0.30] * 3))
    assert found == ["one, abs_rel: 0.150, outside of 0.110 ± 0.030"]


def test_a_claim_that_fails_again_is_reported_once_it_held():
    committed = numbers_of([0.20, 0.30], [0.25, 0.35])
    found = differences(small_table(), committed, numbers_of([0.30] * 2, [0.28] * 2))
    assert found == ["no longer true: one is better"]
    never = numbers_of([0.30] * 2, [0.28] * 2)
    assert differences(small_table(), never, never) == []


def test_seconds_have_no_band():
    committed, repeated = numbers_of([0.1], [0.3]), numbers_of([0.1], [0.3])
    repeated.rows["one"][0]["seconds"] = 100.0
    assert differences(small_table(), committed, repeated) == []


def test_check_ends_with_an_error_if_a_number_moved(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "TABLES", tmp_path)
    monkeypatch.setattr(results, "load_table", lambda name: small_table())
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("<!-- table small --><!-- end of small -->")
    monkeypatch.setattr(results, "measure", lambda *args: numbers_of([0.1] * 3, [0.3] * 3))
    numbers_of([0.1] * 3, [0.3] * 3).save(tmp_path / "small.json")
    results.main(["--table", "small", "--check"])
    assert "all tables hold" in capsys.readouterr().out
    numbers_of([0.2] * 3, [0.3] * 3).save(tmp_path / "small.json")
    with pytest.raises(SystemExit):
        results.main(["--table", "small", "--check"])
    assert "small: one, abs_rel: 0.100, outside of 0.200 ± 0.010" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ the page


def test_only_the_text_between_the_markers_changes():
    page = "before\n<!-- table x -->\nold\n<!-- end of x -->\nafter"
    new = replace_section(page, "x", "new")
    assert new == "before\n<!-- table x -->\n\nnew\n\n<!-- end of x -->\nafter"
    with pytest.raises(InputError, match="no place for 'y'; add the lines <!-- table y -->"):
        replace_section(page, "y", "new")


def test_a_section_says_which_claims_hold():
    text = section("x", small_table(), numbers_of([0.4, 0.4], [0.3, 0.3]), "a world")
    assert "* **Does not hold**: one is better." in text and "--table x`, a world. 12 steps of 4" in text


@pytest.mark.parametrize("name", MEASURED)
def test_the_page_shows_the_committed_numbers(name):
    numbers, table = load_numbers(results.TABLES / f"{name}.json"), results.load_table(name)
    page = results.PAGE.read_text(encoding="utf-8")
    new = section(name, table, numbers, describe(table.worlds()))
    assert replace_section(page, name, new) == page
    assert numbers.settings == table.digest and len(numbers.seeds) >= 3


def test_the_readme_shows_the_demos_numbers():
    numbers, table = load_numbers(results.TABLES / "demo.json"), results.load_table("demo")
    columns = {key: column for key, column in table.columns.items() if not key.startswith("epoch")}
    rows = {row: {key: numbers.values(row, key) for key in columns} for row in numbers.rows}
    assert markdown(rows, columns) in (PROJECT / "README.md").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------ worlds and evaluation


def test_pseudo_depth_is_a_blurred_monotone_function():
    depth = np.repeat(np.linspace(4, 60, 64)[::-1, None], 96, 1)
    pseudo = pseudo_depth(depth, np.random.default_rng(0))
    order = [np.argsort(np.argsort(values.ravel())) for values in (depth, pseudo)]
    assert np.corrcoef(order)[0, 1] > 0.95
    assert not np.allclose(pseudo / depth, pseudo[0, 0] / depth[0, 0], rtol=0.2)  # not a scale factor
    sky = pseudo_depth(np.where(depth > 50, 0, depth), np.random.default_rng(0))
    assert sky[depth > 55].min() > sky[depth < 40].max() and sky.max() < 65536


def test_worse_speed_is_late_and_noisy(tmp_path):
    path = tmp_path / "training/scene_000/speed.csv"
    path.parent.mkdir(parents=True)
    times = np.arange(0, 40, 0.1)
    rows = "".join(f"{time:.6f},{5 + time:.6f}\n" for time in times)
    path.write_text("seconds,metres_per_second\n" + rows)
    make_speed_worse(tmp_path)
    written = np.loadtxt(path, delimiter=",", skiprows=1)
    errors = written[1:, 1] / (5 + times[1:] - 0.1) - 1
    assert errors.std() == pytest.approx(0.05, abs=0.01) and abs(errors.mean()) < 0.01
    assert path.read_text().startswith("seconds,metres_per_second\n0.000000,")


def test_fog_hides_the_distance_and_keeps_what_is_near():
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    depth = np.full((64, 96), 0.5)
    depth[:32] = 0  # sky
    changed = other_weather(image, depth, np.random.default_rng(1)).astype(float)
    assert changed[:32].std((0, 1)).max() < 3  # noise only
    assert np.corrcoef(changed[32:, :, 0].ravel(), image[32:, :, 1].ravel())[0, 1] > 0.95


def test_another_lens_keeps_the_middle_of_images_and_depth(tmp_path):
    scene = tmp_path / "training/scene_000"
    (scene / "depth").mkdir(parents=True)
    rows, columns = np.mgrid[:96, :192]
    cv2.imwrite(str(scene / "000000.png"), np.full((96, 192, 3), 90, np.uint8))
    cv2.imwrite(str(scene / "depth/000000.png"), (256 + 192 * rows + columns).astype(np.uint16))
    (scene / "cam.txt").write_text("100 0 95.5\n0 100 40\n0 0 1\n")
    move_away(tmp_path)
    depth = cv2.imread(str(scene / "depth/000000.png"), cv2.IMREAD_UNCHANGED)
    assert depth.shape == (64, 128) and depth[0, 0] == 256 + 192 * 16 + 32
    assert cv2.imread(str(scene / "000000.png")).shape == (64, 128, 3)
    assert np.loadtxt(scene / "cam.txt").tolist() == [[100, 0, 63.5], [0, 100, 24], [0, 0, 1]]


def test_the_share_is_the_part_of_the_gain():
    rows = {adaptation.BEFORE: 0.5, adaptation.AFTER: 0.2, adaptation.BOUND: 0.1}
    assert adaptation.share({row: {"abs_rel": value} for row, value in rows.items()}) == pytest.approx(0.75)


def test_errors_are_relative_after_alignment_by_the_median():
    ground_truth = torch.tensor([[[2.0, 4.0, 8.0, 0.0]]])
    error, valid = relative_error(torch.tensor([[[1.0, 2.0, 2.0, 5.0]]]), ground_truth)
    assert valid.tolist() == [[[True, True, True, False]]]
    assert error[valid].tolist() == pytest.approx([0, 0, 0.5])
    error, _ = relative_error(torch.tensor([[[1.0, 2.0, 2.0, 5.0]]]), ground_truth, align=False)
    assert error[valid].tolist() == pytest.approx([0.5, 0.5, 0.75])


def test_stripes_along_measured_rows_are_rough():
    depth = torch.full((1, 16, 8), 10.0)
    seen = torch.zeros(1, 16, 8, dtype=torch.bool)
    seen[:, 4::4] = True
    noise = 1 + 0.01 * torch.rand(1, 16, 8, generator=torch.Generator().manual_seed(0))
    assert roughness(depth * noise, seen) == pytest.approx(1, abs=0.3)
    assert roughness(torch.where(seen, 11.0, depth) * noise, seen) > 1.8
