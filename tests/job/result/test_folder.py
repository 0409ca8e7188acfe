"""A folder is made ready for a result: what stays, what goes, what is refused."""

import pytest

from job.result.folder import (
    is_all_but_done,
    is_finished,
    prepare_output,
    prepare_result,
    prepare_sweep,
)
from pipeline.errors import UserError
from pipeline.storage import TEMPORARY_SUFFIX


def fill(folder, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names_in(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_is_made(tmp_path):
    prepare_result(str(tmp_path / "a" / "b"), overwrite=False)
    assert (tmp_path / "a" / "b").is_dir()


def test_what_a_run_that_died_left_stays_but_for_half_files(tmp_path):
    kept = ("centroids.npy", "checkpoint/state-1", "assignments/a.parquet", "model/variables/v")
    fill(tmp_path, *kept)
    fill(tmp_path, *(f"{name}.0a{TEMPORARY_SUFFIX}" for name in kept))
    prepare_result(str(tmp_path), overwrite=False)
    assert names_in(tmp_path) == set(kept)


def test_a_result_is_refused_and_overwriting_leaves_nothing_of_it(tmp_path):
    fill(tmp_path, "metrics.json", "centroids.npy", "assignments/a.parquet", "transform.npz")
    with pytest.raises(UserError, match="holds a result; add --overwrite to replace it"):
        prepare_result(str(tmp_path), overwrite=False)
    prepare_result(str(tmp_path), overwrite=True)
    assert names_in(tmp_path) == set()


def test_a_result_whose_run_died_at_its_very_end_is_taken(tmp_path):
    fill(tmp_path, "metrics.json", "checkpoint/state-1")
    prepare_result(str(tmp_path), overwrite=False)
    assert is_all_but_done(str(tmp_path))
    assert not is_finished(str(tmp_path))
    (tmp_path / "checkpoint" / "state-1").unlink()
    (tmp_path / "checkpoint").rmdir()
    assert is_finished(str(tmp_path))
    assert not is_all_but_done(str(tmp_path))


@pytest.mark.parametrize(
    "prepare", [prepare_result, lambda f, o, a=(): prepare_sweep(f, (2,), o, a)]
)
def test_files_of_somebody_else_are_refused_even_when_overwriting(tmp_path, prepare):
    fill(tmp_path, "thesis.tex", "shards/manifest.json")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"holds something else \(thesis.tex\)"):
            prepare(str(tmp_path), overwrite, ("shards",))
    (tmp_path / "thesis.tex").unlink()
    prepare(str(tmp_path), True, ("shards",))
    assert names_in(tmp_path) == {"shards/manifest.json"}
    with pytest.raises(UserError, match="a file; give a folder"):
        prepare(str(tmp_path / "shards" / "manifest.json"), False)


def test_a_sweep_keeps_its_results_and_refuses_others(tmp_path):
    fill(tmp_path, "k=3/metrics.json", f"sweep.json.0a{TEMPORARY_SUFFIX}")
    prepare_sweep(str(tmp_path), (3, 5), overwrite=False)
    assert names_in(tmp_path) == {"k=3/metrics.json"}
    with pytest.raises(UserError, match="holds k=3 of an unfinished sweep; give that k too"):
        prepare_sweep(str(tmp_path), (4, 5), overwrite=False)
    fill(tmp_path, "sweep.json")
    with pytest.raises(UserError, match="holds a sweep; add --overwrite"):
        prepare_sweep(str(tmp_path), (3, 5), overwrite=False)
    prepare_sweep(str(tmp_path), (4, 5), overwrite=True)
    assert names_in(tmp_path) == set()


def test_several_ks_are_a_sweep_and_one_is_not(tmp_path):
    fill(tmp_path, "k=3/metrics.json")
    prepare_output(str(tmp_path), (3, 5), overwrite=False)
    with pytest.raises(UserError, match="holds something else"):
        prepare_output(str(tmp_path), (3,), overwrite=False)


@pytest.mark.parametrize("name", ["metrics.json", "transform.npz", "sweep.json"])
def test_a_folder_called_like_a_file_of_ours_is_not_removed(tmp_path, name):
    fill(tmp_path, f"{name}/thesis.tex")
    for ks in ((2,), (2, 3)):
        with pytest.raises(UserError, match=rf"holds (a folder {name}|something else)"):
            prepare_output(str(tmp_path), ks, overwrite=True)
    assert names_in(tmp_path) == {f"{name}/thesis.tex"}
