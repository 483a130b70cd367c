"""The command line: what it reads and writes, and one sentence for each wrong input."""

import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax import checkpoint

from muon_optax.command._main import main
from muon_optax.comparison import _estimated, _timing
from muon_optax.estimates._targets import NEEDED

SHAPES = {"up": (8, 24), "down": (24, 8), "norm": (8,)}
TREE = {f"{name}/kernel": np.ones(shape, np.float32) for name, shape in SHAPES.items()}
STEP = {"step": np.array(3, np.int64)}


def make_tree():
    return TREE


def make_vectors():
    return {"norm/kernel": TREE["norm/kernel"]}


def make_doubtful():
    return TREE | {"thing": np.ones((8, 8), np.float32)}


def make_equinox():
    sides = {"0": (64, 16), "1": (10, 64)}
    layers = {name: {"weight": np.ones(s), "bias": np.ones(s[0])} for name, s in sides.items()}
    return jax.tree.map(np.float32, {"layers": layers})


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """An empty folder; one call a sample."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_timing, "SAMPLE_S", 0.0)
    monkeypatch.setitem(_timing.PAUSE_S, "cpu", 0.0)
    return tmp_path


def test_bench_prints_a_table_and_a_verdict_and_writes_json_and_a_picture(here, capsys):
    main(["bench", "8x16", "2x8x8", "--methods", "jordan,taylor2:3,svd", "--out", "found"])
    said = capsys.readouterr().out
    assert "2 × 8×8 float32" in said and "taylor2:3" in said
    assert said.rstrip().splitlines()[-1].startswith("On ")
    found = json.loads((here / "found.json").read_text())
    assert [time["count"] for time in found["times"]] == [1] * 3 + [2] * 3
    assert (here / "found.png").stat().st_size > 10_000


def test_a_terminal_without_the_signs_loses_nothing_else(here, monkeypatch):
    written = io.BytesIO()
    with io.TextIOWrapper(written, "ascii") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        main(["bench", "8x8", "--methods", "jordan"])
        terminal.flush()
        assert b"1 ? 8?8 float32" in written.getvalue()
    assert (here / "comparison.json").exists()


def write_npz(path):
    np.savez(path, **TREE, **STEP)


def write_safetensors(path):
    header = {name: {"dtype": "F32", "shape": x.shape} for name, x in TREE.items()}
    step = {"step": {"dtype": "I64", "shape": []}}
    text = json.dumps(header | step | {"__metadata__": {}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)


def write_orbax(path):
    with checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, {"params": TREE | STEP, "opt_state": [jnp.ones((8, 24))]})


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.npz", write_npz), ("a.safetensors", write_safetensors), ("a", write_orbax)],
)
def test_plan_reads_the_floats_of_a_checkpoint(name, write, here, capsys):
    write(here / name)
    main(["plan", name])
    said = capsys.readouterr().out
    assert "2 matrices" in said and "opt_state" not in said and "step" not in said.split()


def test_check_tells_by_its_status_whether_a_label_is_doubtful(capsys):
    main(["check", "test_command:make_tree"])
    assert capsys.readouterr().out == "None of 3 leaves is doubtful.\n"
    with pytest.raises(SystemExit) as status:
        main(["check", "test_command:make_doubtful"])
    assert status.value.code == 1
    assert "thing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("bench 768", "shape '768'; use ROWSxCOLUMNS or COUNTxROWSxCOLUMNS, such as 768x3072"),
        ("bench 0x5", "shape 0x5; use two numbers ≥ 1"),
        ("bench 8x8 --methods jordn", "did you mean 'jordan'"),
        ("bench 8x8 --methods jordan:0", "steps=0; use a whole number ≥ 1"),
        ("bench 8x8 --dtype int8", "dtype='int8'; use one of ['bfloat16', 'float16',"),
        ("bench 8x8 --target cpu", "target='cpu'; use one of ['h100', 'h200', 'v5e'"),
        ("bench", "pass shapes such as 768x3072, or --tree TREE, but not both"),
        ("bench 8x8 --out no/such", "--out no/such: there is no folder no"),
        ("bench --tree test_command:make_vectors", "muon has no matrix to train"),
        ("bench --tree test_command:nothing", "has no attribute 'nothing'"),
        ("bench --tree missing.npz", "'missing.npz' is not a file; pass a checkpoint, or"),
        ("plan broken.npz", "broken.npz cannot be read: "),
        ("plan test_command:make_tree --layout flux", "--layout flux; use one of flax, "),
        (
            "plan test_command:make_equinox",
            "a rule for every leaf: --layout equinox or",
        ),
        ("plan steps", "pass one of its items (default), such as steps/default"),
        ("bench 8x8 --steps 5", "unrecognized arguments: --steps 5"),
    ],
)
def test_what_is_wrong_gets_one_sentence(arguments, said, here, capsys):
    (here / "broken.npz").write_text("nothing")
    (here / "steps" / "default").mkdir(parents=True)
    (here / "steps" / "_CHECKPOINT_METADATA").write_text("{}")
    with pytest.raises(SystemExit) as status:
        main(arguments.split())
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert status.value.code == 2
    assert said in error and "Traceback" not in error


def test_a_full_disk_is_named_after_the_table_is_printed(here, capsys):
    (here / "comparison.json").symlink_to("/dev/full")
    with pytest.raises(SystemExit) as status:
        main(["bench", "8x8", "--methods", "jordan"])
    said = capsys.readouterr()
    assert status.value.code == 1
    assert "jordan is the fastest" in said.out
    assert said.err.endswith("muon_optax: comparison.json: No space left on device\n")


def test_without_the_extra_there_is_a_table_and_a_sentence_on_what_to_install(
    here, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr("muon_optax.command._main.find_spec", lambda name: None)
    main(["bench", "8x8", "--methods", "jordan"])
    said = capsys.readouterr()
    assert "jordan is the fastest" in said.out
    first, second, *_ = said.err.splitlines()
    assert (
        first
        == "muon_optax: matplotlib is missing, so there is no picture: pip install matplotlib"
    )
    assert second == "1/3 jordan on 1 × 8×8"


def test_a_target_without_its_compiler_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setitem(NEEDED, "tpu", ("no-such-compiler",))
    with pytest.raises(SystemExit):
        main(["bench", "8x8", "--methods", "jordan", "--target", "v5e"])
    said = capsys.readouterr().err
    assert "no-such-compiler not installed" in said and "pip install 'jax[tpu]'" in said


def test_the_process_of_a_compiler_answers_without_a_warning(monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    found = _estimated._in_process("jordan", (1, 8, 8), "float32", "cpu")
    assert found.compile_s > 0 and found.seconds is None
