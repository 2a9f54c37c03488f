"""Settings of data sets that are not at hand, end to end on a few files of the published layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.data import event_files
from tests.data.event_files import columns
from tests.data.test_sets import write_heidelberg

from cli.conftest import spyx
from spyx.cli.config import make_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def shd(folder: Path) -> None:
    write_heidelberg(folder / "shd_train.h5", 8, 20, [0, 1, 10, 11, 0, 10, 2, 3])
    write_heidelberg(folder / "shd_test.h5", 4, 20, [4, 5, 4, 5])


def ssc(folder: Path) -> None:
    for name, count in (("train", 5), ("valid", 3), ("test", 2)):
        write_heidelberg(folder / f"ssc_{name}.h5", count, 35)


def dvs_gesture(folder: Path) -> None:
    for user in ("user01_led", "user21_lab", "user24_fluorescent"):
        (folder / f"{user}.aedat").write_bytes(event_files.aedat3(columns(400, 128, 128)))
        (folder / f"{user}_labels.csv").write_text("class,startTime_usec,endTime_usec\n1,0,100000\n11,100000,200000\n")
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\nuser21_lab.aedat\n")
    (folder / "trials_to_test.txt").write_text("user24_fluorescent.aedat\n")


def cifar10_dvs(folder: Path) -> None:
    content = event_files.aedat2(columns(30, 128, 128))
    for name in ("airplane", "truck"):
        (folder / name).mkdir()
        for number in (*range(10), 900, 901):
            (folder / name / f"cifar10_{name}_{number}.aedat").write_bytes(content)


@pytest.mark.parametrize("write", [shd, ssc, dvs_gesture, cifar10_dvs], ids=lambda write: write.__name__)
def test_settings_of_papers_run_end_to_end(write, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    write(files)
    config = CONFIGS / f"{write.__name__}.toml"
    text = config.read_text()
    for sizes in ("[360, 360]", "[512, 512]", "[512]", "[64, 128, 128, 128]", "[64, 128, 256, 256]"):
        text = text.replace(f"= {sizes}\n", f"= {[4] * (1 + sizes.count(','))}\n")
    (tmp_path / "small.toml").write_text(text)
    result = spyx(
        "train", "--config", tmp_path / "small.toml", "--data", files, "--cache", tmp_path / "cache",
        "--epochs", 1, "--batch-size", 2, "--output", tmp_path / "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["epochs"][0]["train_loss"] < 10
    whole = make_config(config, {"data": str(files)})
    assert whole.dataset == write.__name__
    assert make_config(tmp_path / "run" / "config.toml", {}).raster == whole.raster
