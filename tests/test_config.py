"""Study configs: defaults, files, flags on top, and errors in the user's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas_edge import UserError
from nas_edge.config import DEFAULT_MOST_SAMPLES, StudyConfig, TrainConfig, make_config, parse_config


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_defaults() -> None:
    config = make_config(None, {})
    assert (config.space, config.data, config.target, config.trials) == ("mobilenet", "digits", "local", 40)
    assert config.objectives == ["accuracy", "latency_ms"]
    assert config.techniques is None and config.max_latency_ms is None
    assert config.name == "digits"
    assert config.folder == Path("runs/digits")
    assert config.storage_url == "sqlite:///runs/digits/study.db"


def test_names_follow_the_data() -> None:
    assert make_config(None, {"data": "folder:/my data/cats"}).name == "folder"
    assert make_config(None, {"data": "fashion-mnist:x"}).folder == Path("runs/fashion-mnist")
    named = make_config(None, {"study": "night-1", "out": "/tmp/a", "storage": "postgresql://h/x"})
    assert (named.name, named.folder, named.storage_url) == ("night-1", Path("/tmp/a"), "postgresql://h/x")


def test_flags_override_the_file_where_they_are_given(tmp_path: Path) -> None:
    file = write(tmp_path, 'space = "tiny"\ntrials = 7\ntarget = "phone"\n[train]\nsamples = 100\nbatch_size = 32\n')
    config = make_config(file, {"trials": 9, "space": None, "samples": 50})
    assert (config.space, config.trials, config.target) == ("tiny", 9, "phone")
    assert (config.train.samples, config.train.batch_size) == (50, 32)
    assert make_config(file, {"threads": 2}).target == "local?threads=2"
    assert make_config(file, {"techniques": []}).techniques == []
    with pytest.raises(UserError, match="threads and target are both given"):
        make_config(None, {"threads": 2, "target": "local"})


def test_python_types_are_taken_as_they_come(tmp_path: Path) -> None:
    config = make_config(None, {"out": tmp_path, "techniques": ("prune",), "max_latency_ms": 1})
    assert (config.out, config.techniques, config.max_latency_ms) == (str(tmp_path), ["prune"], 1.0)


def test_the_training_of_a_candidate() -> None:
    assert TrainConfig().samples_for(1000) == 4000
    assert TrainConfig().samples_for(54_000) == DEFAULT_MOST_SAMPLES
    assert TrainConfig(samples=10).samples_for(54_000) == 10


def test_short_trainings_take_smaller_steps() -> None:
    assert [TrainConfig().batch_for(samples) for samples in (1, 64 * 300 - 1, 64 * 300)] == [32, 32, 64]
    assert TrainConfig(batch_size=48).batch_for(10) == 48


@pytest.mark.parametrize(
    "change",
    [
        {"space": "other"},
        {"seed": 1},
        {"sampler": "tpe"},
        {"techniques": []},
        {"objectives": ["accuracy", "latency_ms", "size_bytes"]},
        {"max_latency_ms": 1.0},
        {"train_images": 10},
        {"train": {"samples": 10}},
    ],
)
def test_what_makes_another_study(change: dict[str, Any]) -> None:
    assert parse_config(change).identity() != StudyConfig().identity()


@pytest.mark.parametrize(
    "change",
    [
        {"study": "x"},
        {"trials": 1},
        {"timeout": 1.0},
        {"workers": 2},
        {"trial_timeout": 60.0},
        {"trial_memory_mb": 2000},
        {"storage": "sqlite:///x.db"},
        {"out": "x"},
        {"calibration_seconds": 5.0},
    ],
)
def test_what_makes_no_other_study(change: dict[str, Any]) -> None:
    assert parse_config(change).identity() == StudyConfig().identity()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trials": 0}, "--trials is 0: input should be greater than or equal to 1"),
        ({"max_latency_ms": -1.0}, "--max-latency-ms is -1.0: input should be greater than 0"),
        ({"max_latency_ms": float("nan")}, "--max-latency-ms is nan: input should be a finite number"),
        ({"timeout": float("inf")}, "--timeout is inf: input should be a finite number"),
        ({"seed": 2**63}, f"--seed is {2**63}: input should be less than {2**63}"),
        ({"workers": "2"}, "--workers is '2': input should be a valid integer"),
        ({"trails": 3}, "unknown key 'trails'; did you mean 'trials'?"),
        ({"train": {"sample": 3}}, "unknown key 'train.sample'; did you mean 'train.samples'?"),
        ({"train": {"recovery_share": 1.0}}, "train.recovery_share is 1.0: input should be less than 1"),
        ({"train": {"device": "tpu"}}, "train.device is 'tpu': input should be 'auto', 'cpu' or 'cuda'"),
        ({"objectives": ["acuracy"]}, "unknown objective 'acuracy'; did you mean 'accuracy'?"),
        ({"objectives": ["latency_ms", "accuracy"]}, "give accuracy, latency_ms and, where wanted, size_bytes"),
        ({"study": "../x"}, "'../x' is not a study name; use letters"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_do(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(values)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trials = 'many'", "study.toml: trials is 'many': input should be a valid integer"),
        ("trails = 3", "study.toml: unknown key 'trails'; did you mean 'trials'?"),
        ("train = 3", "study.toml: train is 3: "),
        ("trials = ", "study.toml is not TOML: "),
        ("\udcff", "study.toml is not UTF-8: invalid start byte at byte 0"),
    ],
)
def test_a_wrong_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as caught:
        make_config(path, {"samples": 3})
    assert message in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read: .*No such file"):
        make_config(tmp_path / "missing.toml", {})
    with pytest.raises(UserError, match=r"cannot be read: .*Is a directory"):
        make_config(tmp_path, {})
    with pytest.raises(UserError, match="is larger than 1,000,000 bytes"):
        make_config(write(tmp_path, "#" * 1_000_001), {})


def test_a_config_survives_toml_and_json() -> None:
    config = parse_config({"trials": 3, "max_latency_ms": 0.5, "train": {"samples": 10}})
    assert StudyConfig.model_validate_json(config.model_dump_json()) == config
    assert parse_config(config.model_dump()) == config


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("prune.criterion=taylor", "prune.criterion", "taylor"),
        ("prune.ratio=0.5", "prune.ratio", 0.5),
        ("quantize.bits=8", "quantize.bits", 8),
        ("prune.enabled=true", "prune.enabled", True),
        ("x.limit=null", "x.limit", None),
        ('x.word="8"', "x.word", "8"),
        ('x.word="a,b"', "x.word", "a,b"),
        ("x.path=a=b:c", "x.path", "a=b:c"),
        ("quantize.scheme=static, dynamic", "quantize.scheme", ["static", "dynamic"]),
        ("x.bits=4,8", "x.bits", [4, 8]),
        ("x.bits=[4, 8]", "x.bits", [4, 8]),
        ("x.rate=NaN", "x.rate", "NaN"),
    ],
)
def test_choices_on_the_command_line(text: str, name: str, value: Any) -> None:
    assert make_config(None, {"set": [text]}).set == {name: value}


def test_choices_in_a_file_and_on_top_of_it(tmp_path: Path) -> None:
    file = write(tmp_path, '[set]\n"prune.ratio" = 0.5\nprune.criterion = "l1"\nprune.deep.x = [1, 2]\nq.bits = [8]\n')
    chosen = {"prune.ratio": 0.5, "prune.criterion": "l1", "prune.deep.x": [1, 2], "q.bits": 8}
    assert make_config(file, {}).set == chosen
    assert make_config(file, {"set": ["prune.ratio=0.3,0.4"]}).set == {**chosen, "prune.ratio": [0.3, 0.4]}
    assert make_config(file, {"set": {"q": {"bits": (4, 8)}}}).set == {**chosen, "q.bits": [4, 8]}
    assert parse_config({"set": {"a.b": 1}}).identity() != parse_config({"set": {"a.b": 2}}).identity()
    assert parse_config(make_config(file, {}).model_dump()) == make_config(file, {})


def test_the_training_is_chosen_by_name_too(tmp_path: Path) -> None:
    """On top of the file's, whatever else is given."""
    file = write(tmp_path, 'set.prune.ratio = 0.5\n[train]\nsamples = 100\nprecision = "bfloat16"\n')
    config = make_config(file, {"set": ["train.precision=float32", "prune.scope=layer"], "samples": 50})
    assert (config.train.samples, config.train.precision) == (50, "float32")
    assert config.set == {"prune.ratio": 0.5, "prune.scope": "layer"}
    given = make_config(None, {"set": {"train": {"finetune_share": 0.1}}, "samples": 50, "train": {"weight_decay": 0}})
    assert (given.train.finetune_share, given.train.samples, given.train.weight_decay) == (0.1, 50, 0)
    assert given.set == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"set": ["a.b"]}, "--set is 'a.b'; write NAME=VALUE, as in prune.criterion=l1"),
        ({"set": ["=1"]}, "--set is '=1'; write NAME=VALUE"),
        ({"set": ["a.b="]}, "--set is 'a.b='; write NAME=VALUE"),
        ({"set": ["a.b=1", "a.b=2"]}, "--set a.b is given twice; for several values write a.b=A,B"),
        ({"set": {"a.b": []}}, "a.b is []; give at least one value, and each once"),
        ({"set": {"a.b": [1, 1]}}, "a.b is [1, 1]; give at least one value, and each once"),
        ({"set": {"a.b": [[1]]}}, "a.b is [1]; give true or false, a number or a word"),
        ({"set": {"a.b": float("inf")}}, "a.b is inf; give true or false, a number or a word"),
        ({"max_drop": -0.1}, "--max-drop is -0.1: input should be greater than or equal to 0"),
        ({"max_drop": 101.0}, "--max-drop is 101.0: input should be less than or equal to 100"),
        ({"train": {"precision": "half"}}, "train.precision is 'half': input should be 'float32', 'bfloat16' or"),
        ({"train": {"finetune_share": 0.7}}, "recovery_share and finetune_share together must be below 1, not 1.1; l"),
        ({"set": ["a.b={}"]}, "set: a.b is {}; give true or false, a number or a word"),
        ({"set": ["train.precision=half"]}, "train.precision is 'half': input should be 'float32', 'bfloat16' or"),
        ({"set": ["train.precission=half"]}, "unknown key 'train.precission'; did you mean 'train.precision'?"),
        ({"set": ["train.precision=float32,bfloat16"]}, "train.precision is ['float32', 'bfloat16']: input should be"),
    ],
)
def test_wrong_choices_and_limits(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_config(None, values)
    assert message in str(caught.value)


def test_gate_and_training_are_part_of_a_study() -> None:
    for change in ({"gate": False}, {"max_drop": 10.0}, {"train": {"precision": "bfloat16"}}):
        assert parse_config(change).identity() != StudyConfig().identity()
