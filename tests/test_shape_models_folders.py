"""Whole folders: the same in threads, processes and on a cluster; on from where a run was broken off."""

import json
import os
import pickle
import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shape_models import folders
from shape_models.cli import main
from shape_models.folders import FolderReport, read_records, run


class Model:
    """Counts in a folder how often it travels."""

    def __init__(self, factor, folder=None):
        self.factor, self.folder = factor, folder

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self.folder is not None:
            Path(self.folder, f"{os.getpid()}-{len(list(Path(self.folder).iterdir()))}").write_text("")


def times(model, number):
    if number < 0:
        raise ValueError("got a negative number.")
    return {"answer": np.float64(model.factor * number), "array": np.full(2, number), "status": "its own"}


def records(journal):
    return {r["name"]: r for r in read_records(journal)}


ITEMS = {f"item {k}": k for k in range(12)} | {"bad": -1}


def check(journal, report):
    assert report.n_done == 12
    assert report.errors == {"bad": "got a negative number."}
    found = records(journal)
    assert list(found) == list(ITEMS)
    assert [found[f"item {k}"]["answer"] for k in range(12)] == [3.0 * k for k in range(12)]
    assert found["item 4"]["array"] == [4, 4]
    assert found["item 4"]["status"] == "ok"


def test_one_after_the_other(tmp_path):
    heard = []
    report = run(times, ITEMS, tmp_path / "a.jsonl", model=Model(3), progress=lambda *done: heard.append(done))
    check(tmp_path / "a.jsonl", report)
    assert heard == [(k, 13) for k in range(1, 14)]


def test_threads_share_the_model(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        check(
            tmp_path / "a.jsonl",
            run(times, ITEMS, tmp_path / "a.jsonl", model=Model(3, str(tmp_path / "none")), map=pool.map),
        )


def test_processes_get_the_model_once(tmp_path):
    (tmp_path / "travels").mkdir()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        report = run(times, ITEMS, tmp_path / "a.jsonl", model=Model(3, str(tmp_path / "travels")), map=pool.map)
    check(tmp_path / "a.jsonl", report)
    travels = [name.name.split("-")[0] for name in (tmp_path / "travels").iterdir()]
    assert 1 <= len(travels) == len(set(travels)) <= 2


def test_a_model_comes_to_a_process_once_and_its_file_goes(tmp_path):
    (tmp_path / "travels").mkdir()
    with folders._Travelling(Model(3, str(tmp_path / "travels"))) as model:
        arrived = [pickle.loads(pickle.dumps(model)) for _ in range(3)]
        assert len({id(one()) for one in arrived}) == 1
        path = Path(arrived[0].path)
        assert path.exists()
        assert len(list((tmp_path / "travels").iterdir())) == 1
    assert not path.exists()


def test_dask_on_a_local_cluster_of_two_processes(tmp_path):
    distributed = pytest.importorskip("distributed")
    import dask

    settings = {"distributed.worker.daemon": False, "distributed.admin.log-length": 0}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, worker_dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        report = run(times, ITEMS, tmp_path / "a.jsonl", model=Model(3), map=client)
    check(tmp_path / "a.jsonl", report)


class Crash(BaseException):
    """What no work should swallow."""


@given(st.integers(0, 12), st.integers(0, 40))
def test_after_a_crash_only_what_is_missing_is_done(tmp_path_factory, crash, cut):
    """Wherever a run was broken off, and wherever in a line: the end is as of one run, and nothing is done twice."""
    journal = tmp_path_factory.mktemp("crash") / "a.jsonl"
    calls = []

    def work(model, number):
        if number == crash and crash not in calls:
            calls.append(number)
            raise Crash
        calls.append(number)
        return times(model, number)

    items = {name: number for name, number in ITEMS.items() if number >= 0}
    if crash < 12:
        with pytest.raises(Crash):
            run(work, items, journal, model=Model(3))
        with journal.open("a") as file:
            file.write(json.dumps({"name": "item 11", "status": "ok", "message": ""})[:cut])
    report = run(work, items, journal, model=Model(3), resume=True)
    assert (report.n_done, report.n_skipped) == ((12 - crash, crash) if crash < 12 else (12, 0))
    assert sorted(calls) == sorted([*range(12), *([crash] if crash < 12 else [])])
    found = records(journal)
    assert list(found) == list(items)
    assert [r["answer"] for r in found.values()] == [3.0 * k for k in range(12)]


def test_errors_are_tried_again_and_a_new_run_begins_anew(tmp_path):
    journal = tmp_path / "a.jsonl"
    run(times, {"a": -1, "b": 2}, journal, model=Model(3))
    assert run(times, {"a": 1, "b": 2}, journal, model=Model(3), resume=True) == FolderReport(journal, 1, 1, {})
    assert run(times, {"a": 1, "b": 2}, journal, model=Model(3)) == FolderReport(journal, 2, 0, {})
    assert [r["name"] for r in read_records(journal, ["b", "c", "a"])] == ["b", "a"]


def test_other_exceptions_are_faults_of_the_program(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run(lambda model, number: 1 / number, {"a": 0}, tmp_path / "a.jsonl")


def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    alive = []

    class Large(np.ndarray):
        pass

    def work(model, number):
        import weakref

        image = np.zeros(10_000).view(Large)
        alive.append(weakref.ref(image))
        return {"sum": float(image.sum())}

    run(work, {str(k): k for k in range(100)}, tmp_path / "a.jsonl")
    assert sum(one() is not None for one in alive) == 0


def test_folders_and_lists(tmp_path):
    for name in ("b/im_10.png", "b/im_2.png", "a.png", ".hidden/c.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(path)

    def work(model, path):
        return {"file": path.name}

    run(work, tmp_path / "in", tmp_path / "a.jsonl")
    assert list(records(tmp_path / "a.jsonl")) == ["a", "b/im_2", "b/im_10"]
    run(work, [tmp_path / "in/a.png", str(tmp_path / "in/b/im_2.png")], tmp_path / "a.jsonl")
    assert {r["file"] for r in read_records(tmp_path / "a.jsonl")} == {"a.png", "im_2.png"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="got no image in this folder"):
        run(work, tmp_path / "empty", tmp_path / "a.jsonl")
    with pytest.raises(FileNotFoundError, match="got no such folder"):
        run(work, tmp_path / "nowhere", tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="items: got int"):
        run(work, 3, tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="map: got int"):
        run(work, {"a": 1}, tmp_path / "a.jsonl", map=3)
    (tmp_path / "b.jsonl").write_text("no journal\n")
    with pytest.raises(ValueError, match=r"line 1: got .*expected what an earlier run wrote"):
        run(work, {"a": 1}, tmp_path / "b.jsonl", resume=True)


# --- commands --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    face = Image.fromarray(skimage.data.astronaut()[20:260, 100:340])
    for name in ("a", "c"):
        face.save(folder / f"{name}.png")
    (folder / "b.png").write_bytes(b"no image")
    return folder


def invoke(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_search_goes_on_after_a_crash(pictures, tmp_path):
    out = tmp_path / "out"
    first = invoke("search", "search68", pictures, "-o", out, "--no-overlay")
    assert first.exit_code == 0, first.output
    table = (out / "results.csv").read_text()
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 3
    (out / "results.jsonl").write_text(lines[0] + lines[1] + lines[2][:20])  # broken off in the third
    before = (out / "a.pts").stat().st_mtime_ns
    (out / "c.pts").unlink()
    again = invoke("search", "search68", pictures, "-o", out, "--no-overlay", "--resume")
    assert again.exit_code == 0, again.output
    assert (out / "results.csv").read_text() == table
    assert (out / "a.pts").stat().st_mtime_ns == before
    assert (out / "c.pts").exists()
    assert "b.png" in table
    assert ",error," in table


NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def words_and_numbers(path):
    text = path.read_text()
    return NUMBER.split(text), [float(number) for number in NUMBER.findall(text)]


@pytest.mark.slow
def test_search_in_two_processes(pictures, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for out, jobs in ((one, 1), (two, 2)):
        result = invoke("search", "search68", pictures, "-o", out, "--jobs", jobs)
        assert result.exit_code == 0, result.output
    for name in ("a.pts", "c.pts", "results.csv", "results.jsonl"):
        words, numbers = words_and_numbers(one / name)
        other_words, other_numbers = words_and_numbers(two / name)
        assert words == other_words
        # Another process may have other last digits, which a search amplifies.
        np.testing.assert_allclose(other_numbers, numbers, rtol=1e-4, atol=1e-4)
    assert invoke("search", "search68", pictures, "-o", two, "--jobs", 0).exit_code == 2


def test_track_writes_a_table_for_each_source(pictures, tmp_path):
    for source in ("one", "two"):
        (tmp_path / source).mkdir()
        for k in range(3):
            frame = np.roll(skimage.data.astronaut()[20:260, 100:340], 2 * k, axis=1)
            Image.fromarray(frame).save(tmp_path / source / f"frame_{k}.png")
    out = tmp_path / "out"
    result = invoke("track", tmp_path / "one", tmp_path / "two", "-o", out, "--overlay", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    assert [(s["name"], s["frames"], s["ids"], s["seen"]) for s in said["sources"]] == [
        ("one", 3, 1, 3),
        ("two", 3, 1, 3),
    ]
    rows = (out / "one.csv").read_text().splitlines()
    assert rows[0].startswith("frame,id,status,confidence,unseen,x0,y0,x1,y1")
    assert [row.split(",")[:3] for row in rows[1:]] == [["0", "0", "new"], ["1", "0", "tracked"], ["2", "0", "tracked"]]
    assert len(list((out / "one").glob("frame_*.png"))) == 3
    stamp = (out / "one.csv").stat().st_mtime_ns
    assert invoke("track", tmp_path / "one", tmp_path / "two", "-o", out, "--resume").exit_code == 0
    assert (out / "one.csv").stat().st_mtime_ns == stamp
    (tmp_path / "empty").mkdir()
    refused = invoke("track", tmp_path / "empty", "-o", out)
    assert refused.exit_code == 1
    assert "got no image in this folder" in refused.output
