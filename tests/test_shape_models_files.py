"""Files appear as a whole or not at all, also when the writer is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shape_models import ModelFileError, ShapeBasis, load_model, save_model
from shape_models._files import atomic, regular, write_bytes, write_text


def test_text_and_bytes_arrive(tmp_path):
    write_text(tmp_path / "a.txt", "é\n")
    write_bytes(tmp_path / "b.bin", b"\0\1")
    assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\0\1"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "model.npz"
    path.write_text("old")

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_permissions_survive(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)
    write_text(path, "new")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import sys, time\nfrom shape_models._files import atomic\n"
        f"with atomic({str(path)!r}) as t:\n    t.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(0.01)
    assert path.read_text() == "old"


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="no-such-folder"):
        write_text(tmp_path / "no-such-folder" / "a.txt", "x")


def leftovers(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_the_next_writing_removes_what_a_killed_one_left(tmp_path):
    test_a_killed_writer_leaves_the_old_file(tmp_path)
    assert len(leftovers(tmp_path)) == 1
    write_text(tmp_path / "b.txt", "another name")
    assert len(leftovers(tmp_path)) == 1
    write_text(tmp_path / "a.txt", "new")
    assert leftovers(tmp_path) == []


def test_a_file_that_is_being_written_is_left_alone(tmp_path):
    path = tmp_path / "a.txt"
    with atomic(path) as first:
        first.write_text("first")
        with atomic(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        assert first.exists()
    assert path.read_text() == "first"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(tmp_path, there):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "real.txt", tmp_path / "link.txt"
    if there:
        target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_what_is_no_file_is_neither_replaced_nor_read(tmp_path):
    pipe = tmp_path / "pipe.npz"
    os.mkfifo(pipe)
    (tmp_path / "link.npz").symlink_to("/dev/null")
    device = tmp_path / "link.npz"
    for path, word in ((pipe, "pipe"), (device, "device"), ("/dev/null", "device"), (tmp_path, "folder")):
        with pytest.raises(OSError, match=f"got a {word}"):
            write_text(path, "x")
        with pytest.raises(ModelFileError, match=f"got a {word}"):
            load_model(path)
        with pytest.raises(OSError, match=f"got a {word}"):
            regular(path)
    assert pipe.is_fifo()
    assert Path("/dev/null").is_char_device()
    assert regular(write_text(tmp_path / "a", "x") or tmp_path / "a").name == "a"


@pytest.mark.parametrize("name", ["nodir/a.npz", "", "a\0b.npz", "x" * 300 + ".npz", "a." + "x" * 300])
def test_messages_speak_of_the_name_that_was_given(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r"nodir/a\.npz|''|: got a folder|null|xxxx") as caught:
        save_model(ShapeBasis(np.zeros(4), np.eye(2, 4), np.ones(2)), name)
    assert ".part-" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
