"""The GPU benchmark without a GPU: a rehearsal runs all of it, and made-up times put its goals to the test."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
import gpu  # noqa: E402
import gpu_report  # noqa: E402

REHEARSE = ["--rehearse", "--no-compile", "--samples", "8"]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """The folder of two runs, one layer each: the second adds to the table of the first."""
    folder = tmp_path_factory.mktemp("rehearsal")
    assert gpu.main([*REHEARSE, "--graphs", "--layers", "batch_norm", "--out", str(folder)]) == 0
    assert gpu.main([*REHEARSE, "--layers", "frn_tlu", "--dtypes", "float32", "--formats", "contiguous",
                     "channels_last", "--out", str(folder)]) == 0
    return folder


def rows_of(folder):
    return gpu_report.read_rows(folder / "rehearsal.csv")


def test_floor_of_a_row_worked_by_hand(rehearsal):
    """Batch norm of (3, 64, 5, 4) in float32: 3840 entries, 15,360 bytes an array."""
    for passed, arrays, mb in ("forward", 3, 0.04608), ("backward", 5, 0.0768), ("forward + backward", 8, 0.12288):
        row = rows_of(rehearsal)["batch_norm", "3x64x5x4", "float32", "contiguous", passed]
        assert row["floor_arrays"] == arrays
        assert row["floor_mb"] == pytest.approx(mb)
        # 1 MB at 1 GB/s takes 1 ms.  The table has six digits.
        assert row["floor_ms"] == pytest.approx(mb / row["copy_gb_per_s"], rel=1e-4)
        assert row["fraction_of_copy"] == pytest.approx(row["floor_ms"] / row["ours_ms"], rel=1e-4)


def test_runs_make_one_table(rehearsal):
    rows = rows_of(rehearsal)
    assert {key[0] for key in rows} == {"batch_norm", "frn_tlu"}
    assert {key[3] for key in rows} == {"contiguous", "channels_last"}
    assert len(rows) == 2 * 2 * 3 + 2 * 2 * 3  # shapes, and types or formats, and passes
    for row in rows.values():
        rival = "torch" if row["layer"] == "batch_norm" else "eager"
        assert row["ours_ms"] > 0 and row[f"{rival}_ms"] > 0 and row["compile_ms"] is None
        assert row[f"vs_{rival}"] == pytest.approx(row[f"{rival}_ms"] / row["ours_ms"], rel=1e-4)
        assert (row["ours_device_ms"] is not None) == (row["layer"] == "batch_norm")
        assert row["error"] <= gpu_report.TOLERANCE[row["dtype"]] and row["repeatable"] == "yes"


def test_rehearsal_says_so_in_each_file(rehearsal):
    assert all("REHEARSAL" in row["machine"] for row in rows_of(rehearsal).values())
    assert (rehearsal / "rehearsal.md").read_text(encoding="utf8").startswith("# REHEARSAL")
    assert "REHEARSAL" in (rehearsal / "rehearsal.svg").read_text(encoding="utf8")
    assert sorted(path.name for path in rehearsal.iterdir()) == ["rehearsal.csv", "rehearsal.md", "rehearsal.svg"]


def test_rehearsal_never_becomes_a_measurement(rehearsal, tmp_path):
    with pytest.raises(SystemExit, match="rehearsal"):
        gpu.main(["--merge", str(rehearsal / "rehearsal.csv"), "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        gpu.main(REHEARSE)  # without --out


def test_committed_report_is_that_of_the_committed_table(tmp_path, capsys):
    """On a machine without a GPU the program writes this very file; what is not in the table is 'not measured'."""
    table = BENCHMARKS / "gpu.csv"
    if table.exists():
        (tmp_path / "gpu.csv").write_bytes(table.read_bytes())
    assert gpu.main(["--out", str(tmp_path)]) == 0
    assert "No GPU is at hand" in capsys.readouterr().out
    text = (tmp_path / "gpu.md").read_text(encoding="utf8")
    assert text == (BENCHMARKS / "gpu.md").read_text(encoding="utf8")
    assert "not measured" in text or table.exists()


def shifted(layer, *, by):
    return lambda *inputs: layer(*inputs) + by()


@pytest.mark.parametrize("wrong", [
    pytest.param(lambda layer: shifted(layer, by=lambda: 1e-3), id="y is off"),
    pytest.param(lambda layer: shifted(layer, by=lambda: 1e-6 * torch.rand(())), id="other bits each time"),
    pytest.param(lambda layer: lambda x, g, b: layer(x, g.detach().lerp(g, 0.999), b), id="a gradient is off"),
])
def test_wrong_layer_is_not_timed(wrong, monkeypatch, tmp_path):
    layer = gpu.LAYERS["layer_norm"]
    monkeypatch.setitem(gpu.LAYERS, "layer_norm", layer._replace(ours=wrong(layer.ours)))
    assert gpu.main([*REHEARSE, "--layers", "layer_norm", "--shapes", "8x48", "--dtypes", "float32",
                     "--out", str(tmp_path)]) == 1
    rows = list(rows_of(tmp_path).values())
    assert len(rows) == 3 and all(row["ours_ms"] is None and row["error"] for row in rows)
    assert verdicts(rows)["y and gradients are right, and the same bits twice: 1 is yes"].startswith("**not met**")


def made_up(**changes):
    """Rows of the whole plan that just meet every goal, but for `changes`: {field: {part of a row's name: factor}}."""
    rows = []
    for case in gpu.cases(gpu.FULL, gpu.LAYERS, None, ("float32", "bfloat16"), ["contiguous"]):
        for row in map(case.row, gpu.PASSES):
            floor = row["floor_mb"] / 4000
            rival = {"local_response_norm": 6.1, "frn_tlu": 4.1}.get(case.layer, 1.31)
            row |= {"floor_ms": floor, "ours_ms": floor / 0.91, "compile_ms": floor / 0.91 * 1.31,
                    "eager_ms" if case.layer == "frn_tlu" else "torch_ms": floor / 0.91 * rival,
                    "ours_peak_mb": 2 * row["array_mb"], "rival_peak_mb": 2 * row["array_mb"], "error": 1e-6,
                    "repeatable": "yes"}
            for field, factors in changes.items():
                for part, factor in factors.items():
                    if part in gpu_report.name(row):
                        row[field] *= factor
            rows.append(row)
    return rows


def verdicts(rows):
    return {goal: found["as called"] for goal, _, found in gpu_report.goals(rows, large=256)}


def test_goals_are_met():
    found = verdicts(made_up())
    assert len(found) == 15
    assert all(verdict.startswith("**met**") for verdict in found.values())


TORCH, COMPILE = "times as fast as torch.nn", "times as fast as torch.compile"


@pytest.mark.parametrize("missed, changes", [
    (["share of the copy bandwidth, forward"], {"floor_ms": {"group norm 64x256x112x112 bfloat16, forward": 0.98}}),
    (["share of the copy bandwidth, backward"], {"floor_ms": {"rms norm 4096x16384 float32, backward": 0.87}}),
    (["share of the copy bandwidth, batch norm"], {"floor_ms": {"batch norm 64x256x112x112 float32, backward": 0.93}}),
    ([f"{TORCH}, each row, every"], {"torch_ms": {"layer norm 8192x1024 bfloat16, backward": 0.7}}),
    ([f"{TORCH}, each row"], {"torch_ms": {"layer norm 32768x4096 bfloat16, backward": 0.7}}),
    ([f"{COMPILE}, each row, every"], {"compile_ms": {"frn tlu 2x256x56x56 float32, backward": 0.7}}),
    ([f"{COMPILE}, each row"], {"compile_ms": {"frn tlu 64x256x112x112 float32, backward": 0.7}}),
    ([f"{TORCH}, geometric", "local response"], {"torch_ms": {"local response": 0.2, "norm": 0.95}}),
    ([f"{COMPILE}, geometric"], {"compile_ms": {"": 0.98}}),
    (["local response"], {"torch_ms": {"local response norm 64x256x112x112 bfloat16, forward +": 0.97}}),
    (["FRN + TLU"], {"eager_ms": {"frn tlu 64x256x112x112 float32, forward": 0.97}}),
    (["peak memory"], {"ours_peak_mb": {"instance norm 2x256x56x56 float32, forward + backward": 1.001}}),
    (["y and gradients"], {"error": {"layer norm 8192x1024 float32": 20}}),
])
def test_goals_that_are_missed(missed, changes):
    """A row below what a goal asks for: that goal is not met, the others are."""
    found = verdicts(made_up(**changes))
    expected = {goal for goal in found if goal.startswith(tuple(missed))}
    assert expected == {goal for goal, verdict in found.items() if verdict.startswith("**not met**")}
    assert all(found[goal].startswith("**met**") for goal in found.keys() - expected)
    assert all(any(goal.startswith(start) for goal in found) for start in missed)


def test_goals_over_part_of_the_plan():
    """Rows that nobody has measured yet: no goal is met for good."""
    rows = [row if row["layer"] == "layer_norm" else row | dict.fromkeys(row.keys() - {*gpu_report.KEY, "array_mb"})
            for row in made_up()]
    found = verdicts(rows)
    forward, batch = (f"share of the copy bandwidth, {of}, x of 256 MB and more" for of in ("forward", "batch norm"))
    # Large: of two layers both types of one shape and one type of another, of five layers both types of one shape.
    assert found[forward].startswith("**met so far**: 0.910, 3 of 16 rows")
    assert found[batch] == "not measured"
