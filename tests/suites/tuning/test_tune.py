"""``tune`` as a user meets it: equal searches, workers that share them and die, and runs that use them."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState

from harness.records.spec import Training
from suites.tuning import confirm
from suites.tuning.search import DEFAULT_SEARCH, Range
from suites.tuning.storage import open_storage
from suites.tuning.studies import RowStudy, _validated_more_often
from tests.forked import Forked
from tests.test_cli import Outcome, bench, ended, own, own_folder, unreported  # noqa: F401 - fixtures

TRIALS = 2
ROWS = ["dlrm_mlp", "own_models:Shallow"]
DATABASE = "sqlite:///tune.db"
# A worker whose heartbeat is quick, so that its death is noticed within seconds.
WORKER = f"""
import sys
import suites.tuning.confirm as confirm, suites.tuning.points as points
import suites.tuning.storage as storage, suites.tuning.studies as studies
storage.HEARTBEAT_SECONDS, storage.GRACE_SECONDS = 1, 10
points.POLL_SECONDS = studies.POLL_SECONDS = 0.2
{{less}}
{{extra}}
import run_bench
sys.argv = ["run_bench.py", "tune", "tiny.yaml", "--trials", "{TRIALS}", "--storage", "{DATABASE}",
            "--cache", "cache", {{more}}]
run_bench.main()
"""
LESS_AFTER_THE_SEARCH = "confirm.RESCORED_SEEDS, confirm.RATE_FACTORS = (1001, 1002), (1.0,)"
# Workers that stand still in their first, or second, trial.
STUCK = """
import time
from suites.plan import Caller
calls = 0
def stuck(caller, function, *arguments, original=Caller.__call__, **keywords):
    global calls
    calls += function.__name__ == "carry_out_trial"
    if calls == {trial}:
        open("reached", "w").close()
        time.sleep(600)
    return original(caller, function, *arguments, **keywords)
Caller.__call__ = stuck
"""


GIVEN_UP = f"""
import optuna
from optuna.trial import TrialState
real = studies.score_in_worker
def once(*arguments):
    studies.score_in_worker = real
    [running] = [
        (study, trial)
        for name in optuna.get_all_study_names("{DATABASE}")
        for study in [optuna.load_study(study_name=name, storage="{DATABASE}")]
        for trial in study.get_trials(states=(TrialState.RUNNING,))
    ]
    running[0]._storage.set_trial_state_values(running[1]._trial_id, TrialState.FAIL)
    return real(*arguments)
studies.score_in_worker = once
"""

# Workers that claim a trial at the same moment whenever both find that there is room for one.
TOGETHER = """
import os, time
from pathlib import Path
calls = 0
def together(*arguments, original=studies.next_claim):
    global calls
    calls += 1
    claim = original(*arguments)
    Path(f"claims-{calls}-{os.getpid()}").touch()
    deadline = time.monotonic() + 3
    while len(list(Path().glob(f"claims-{calls}-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return claim
studies.next_claim = together
"""


def two_rows(folder: Path, **changes: object) -> Path:
    suite = yaml.safe_load((folder / "tiny.yaml").read_text())
    (folder / "tiny.yaml").write_text(yaml.safe_dump(suite | {"architectures": ROWS, "seeds": 1} | changes))
    return folder


def worker(folder: Path, extra: str = "", less: str = LESS_AFTER_THE_SEARCH, jobs: int = 1) -> Forked:
    more = f'"--jobs", "{jobs}"' if jobs > 1 else ""
    return Forked(WORKER.format(extra=extra, less=less, more=more), folder)


def wait_until_stuck(process: Forked, folder: Path) -> None:
    """Until a worker with `STUCK` stands still; fails if it ends before."""
    deadline = time.monotonic() + 300
    while not (folder / "reached").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)


def settings(folder: Path) -> dict:
    return yaml.safe_load((folder / "tuned/tiny-mine.yaml").read_text())


def studies(folder: Path, again: bool = False) -> dict[str, list[optuna.trial.FrozenTrial]]:
    """The trials of each row's search, or those that were scored ``again`` after it."""
    storage = f"sqlite:///{folder}/tune.db"
    return {
        name.split("/")[2]: optuna.load_study(study_name=name, storage=storage).trials
        for name in optuna.get_all_study_names(storage)
        if name.endswith("/again") == again
    }


def judged(trials: list) -> list:
    return [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def found(trial: optuna.trial.FrozenTrial) -> str:
    return json.dumps([trial.params, trial.value], sort_keys=True)


@pytest.fixture(autouse=True)
def _less_after_the_search(monkeypatch):
    monkeypatch.setattr(confirm, "RESCORED_SEEDS", (1001, 1002))
    monkeypatch.setattr(confirm, "RATE_FACTORS", (1.0,))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    """The folder after ``tune tiny.yaml`` in one process."""
    folder = two_rows(own_folder(tmp_path_factory.mktemp("tuned")))
    outcome = ended(worker(folder, less=""))
    assert outcome.code == 0, outcome.err
    assert "settings: tuned/tiny-mine.yaml" in outcome.out
    return folder


def test_every_row_has_as_many_trials_the_defaults_first(tuned):
    found = studies(tuned)
    assert set(found) == set(ROWS)
    for trials in found.values():
        assert len(judged(trials)) == TRIALS
        first = trials[0].params
        for name in DEFAULT_SEARCH:
            assert first[name] == Training.model_fields[name].default
        for trial in trials[1:]:
            for name, choices in DEFAULT_SEARCH.items():
                value = trial.params[name]
                inside = (
                    choices.low <= value <= choices.high if isinstance(choices, Range) else value in choices
                )
                assert inside, name


def test_the_file_has_the_best_trial_of_each_row_and_what_the_defaults_reached(tuned):
    found = studies(tuned)
    for name, row in settings(tuned)["rows"].items():
        values = {t.number: t.value for t in found[name] if t.state == TrialState.COMPLETE}
        best = max(values, key=values.get)
        assert (row["best"], row["default"]) == (values[best], values[0])
        assert row["trained"] == TRIALS
        params = found[name][0 if row["defaults_kept"] else best].params
        assert row["training"] == {key: value for key, value in params.items() if "config." not in key}
        chosen = {key.removeprefix("config."): value for key, value in params.items() if "config." in key}
        assert row["config"] == chosen
    assert settings(tuned)["rows"]["own_models:Shallow"]["config"] == {}  # it declares no choices


def test_the_best_and_the_defaults_are_scored_again_by_seed_and_the_rule_decides(tuned):
    made = studies(tuned, again=True)
    for name, row in settings(tuned)["rows"].items():
        default, best = row["rescored"]
        assert (default["is_default"], best["is_default"], best["trial"]) == (True, False, 1)
        assert list(default["scores"]) == list(best["scores"]) == ["1001", "1002", "1003"]
        first, second = list(default["scores"].values()), list(best["scores"].values())
        differences = np.subtract(second, first)
        standard_error = differences.std(ddof=1) / 3**0.5
        assert best["difference"] == pytest.approx(differences.mean())
        assert best["standard_error"] == pytest.approx(standard_error)
        assert row["defaults_kept"] == (differences.mean() <= standard_error)
        # Six scores and five learning rates, one of which has the chosen settings from the first seed.
        assert len(made[name]) == len({trial.user_attrs["key"] for trial in made[name]}) == 10
        rates = [rate["dense_lr"] for rate in row["lr_curve"]]
        assert np.divide(rates, row["training"]["dense_lr"]) == pytest.approx([1 / 9, 1 / 3, 1, 3, 9])
        chosen = default if row["defaults_kept"] else best
        assert row["lr_curve"][2]["score"] == chosen["scores"]["1001"]
        assert len({rate["score"] for rate in row["lr_curve"]}) == 5


def test_trials_have_a_seed_that_no_compared_run_has(tuned):
    assert settings(tuned)["seed"] > 100


def test_rows_are_tuned_at_once_and_each_finds_what_it_finds_alone(tuned, tmp_path):
    folder = two_rows(own_folder(tmp_path))
    outcome = ended(worker(folder, jobs=2))
    assert outcome.code == 0, outcome.err
    for name in ROWS:
        assert list(map(found, studies(folder)[name])) == list(map(found, studies(tuned)[name])), name
        once_more = set(map(found, studies(folder, again=True)[name]))
        assert once_more
        assert once_more <= set(map(found, studies(tuned, again=True)[name]))
    for name in ("best", "default", "trained"):
        assert [row[name] for row in settings(folder)["rows"].values()] == [
            row[name] for row in settings(tuned)["rows"].values()
        ]
    first, second = (
        [t for t in judged(trials) if t.datetime_complete] for trials in studies(folder).values()
    )
    assert any(
        one.datetime_start < other.datetime_complete and other.datetime_start < one.datetime_complete
        for one in first
        for other in second
    )


def test_a_run_takes_each_row_s_settings_and_says_so(tuned, bench, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tuned)
    outcome = bench(
        "run", "tiny.yaml", "--cache", "cache", "--set", "tuned=tiny", "--out", "with", "--no-speed"
    )
    assert outcome.code == 0, outcome.err
    rows = settings(tuned)["rows"]
    records = [json.loads(path.read_text()) for path in (tuned / "with").glob("runs/*/record.json")]
    for record in (record for record in records if record["kind"] == "model"):
        row = rows[record["architecture"]]
        assert row["training"].items() <= record["spec"]["training"].items()
        assert row["config"].items() <= record["spec"]["config"].items()
        assert record["spec"]["training"]["validations_per_epoch"] == 1
    written = json.loads((tuned / "with/suite.json").read_text())["tuned"]
    assert {row["architecture"]: row["best"] for row in written} == {n: r["best"] for n, r in rows.items()}
    shown = pd.read_csv(tuned / "with/tables/tuning-mine.csv").set_index("architecture")
    for name, row in rows.items():
        assert shown.loc[name, ["default", "best", "dense_lr"]].tolist() == pytest.approx(
            [row["default"], row["best"], row["training"]["dense_lr"]]
        )
    page = (tuned / "with/report.md").read_text()
    assert f"{rows['dlrm_mlp']['default']:.4f} | {rows['dlrm_mlp']['best']:.4f}" in page


def test_a_row_may_keep_the_defaults_beside_its_tuned_self(tuned, bench, unreported, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tuned)
    rows = "[dlrm_mlp, {architecture: dlrm_mlp, variant: defaults, tuned_as: null}]"
    command = ["run", "tiny.yaml", "--cache", "cache", "--set", "tuned=tiny", "--seeds", "1", "--no-speed"]
    outcome = bench(*command, "--set", f"architectures={rows}", "--out", "defaults")
    assert outcome.code == 0, outcome.err
    records = [json.loads(path.read_text()) for path in (tuned / "defaults").glob("runs/*/record.json")]
    training = {r["variant"]: r["spec"]["training"] for r in records if r["kind"] == "model"}
    for name in DEFAULT_SEARCH:
        assert training["defaults"][name] == Training.model_fields[name].default
    assert settings(tuned)["rows"]["dlrm_mlp"]["training"].items() <= training[""].items()
    assert (
        training[""] != training["defaults"]
        or settings(tuned)["rows"]["dlrm_mlp"]["best"] == (settings(tuned)["rows"]["dlrm_mlp"]["default"])
    )


def test_tokens_are_chosen_and_a_run_takes_them_and_its_spec_says_so(own, bench, unreported):  # noqa: F811
    """Of chunks of four tokens, one a group and one a feature; a row with its own tokens is not searched."""
    rows = ["dlrm_mlp", {"architecture": "dlrm_mlp", "variant": "own", "tokens": 2}]
    search = {"tokenizer": ["chunks", "groups", "fields"], "tokens": [3, 4]}
    two_rows(own, architectures=rows, search=search)
    command = ["tune", "tiny.yaml", "--storage", DATABASE, "--cache", "cache", "--trials", "3"]
    outcome = bench(*command)
    assert outcome.code == 0, outcome.err
    drawn = [trial.params for trial in judged(studies(own)["dlrm_mlp"])]
    assert {params["tokenizer"] for params in drawn} == {"chunks", "groups", "fields"}
    assert (drawn[0]["tokenizer"], drawn[0]["tokens"]) == ("chunks", 3)
    assert all(("tokens" in params) == (params["tokenizer"] != "fields") for params in drawn)
    assert not any({"tokens", "tokenizer"} & set(t.params) for t in studies(own)["dlrm_mlp-own"])
    content = settings(own)
    row = content["rows"]["dlrm_mlp"]
    assert (row["default_inputs"]["tokenizer"], row["default_inputs"]["num_tokens"]) == ("chunks", 3)
    for chosen, made in {
        ("groups", 4): {"tokenizer": "groups", "tokens": 4},
        ("fields", 4): {"tokenizer": "fields"},
        ("chunks", 4): {"tokens": 4},
    }.items():
        row["tokens"] = made
        row["inputs"] |= {"tokenizer": chosen[0], "num_tokens": chosen[1]}
        (own / "tuned/tiny-mine.yaml").write_text(yaml.safe_dump(content))
        run = ["run", "tiny.yaml", "--cache", "cache", "--set", "tuned=tiny", "--seeds", "1"]
        outcome = bench(*run, "--plan", "jobs.jsonl")
        assert outcome.code == 0, outcome.err
        planned = [json.loads(line) for line in (own / "jobs.jsonl").read_text().splitlines()]
        specs = [line["spec"] for line in planned if line["spec"]["architecture"] == "dlrm_mlp"]
        found = {spec["variant"]: (spec["tokenizer"], spec["num_tokens"]) for spec in specs}
        assert found == {"": chosen, "own": ("chunks", 2)}
        assert json.loads((own / "out/tiny/suite.json").read_text())["tuned"][0]["tokens"] == made
    outcome = bench(*run, "--set", "tokens=4", "--out", "refused")
    assert outcome.code == 2
    assert "dlrm_mlp: was tuned on other tokens" in " ".join(outcome.err.split())


def test_what_a_row_settles_itself_outlasts_tuning(tuned, bench, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tuned)
    rows = "[{architecture: dlrm_mlp, config: {num_layers: 5}}]"
    command = ["cost", "--scale", "tiny.yaml", "--set", "tuned=tiny", "--set", f"architectures={rows}"]
    outcome = bench(*command, "--cache", "cache")
    assert outcome.code == 0, outcome.err
    assert "num_layers=5" in outcome.out


def test_a_second_call_makes_no_trial_and_a_larger_number_only_the_missing_ones(tuned, bench, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tuned)
    before = {name: len(trials) for name, trials in studies(tuned).items()}
    again = ["tune", "tiny.yaml", "--storage", DATABASE, "--cache", "cache", "--trials"]
    assert bench(*again, str(TRIALS)).code == 0
    assert {name: len(trials) for name, trials in studies(tuned).items()} == before
    assert bench(*again, str(TRIALS + 1)).code == 0
    assert {name: len(judged(trials)) for name, trials in studies(tuned).items()} == dict.fromkeys(
        before, TRIALS + 1
    )


def test_an_edited_architecture_is_tuned_anew_and_the_others_are_not(own, bench):  # noqa: F811
    two_rows(own)
    once = ["tune", "tiny.yaml", "--storage", DATABASE, "--cache", "cache", "--trials", "1"]
    assert bench(*once).code == 0
    before = set(optuna.get_all_study_names(DATABASE))
    (own / "own_models.py").write_text((own / "own_models.py").read_text() + "# edited\n")
    assert bench(*once).code == 0
    anew = set(optuna.get_all_study_names(DATABASE)) - before
    assert [name.split("/")[2] for name in anew] == ["own_models:Shallow"] * 2  # its search, and after it


def test_a_tuning_that_was_killed_loses_its_running_trial_alone_and_finds_the_same(tuned, tmp_path):
    """It is killed in its first trial, that of the defaults."""
    folder = two_rows(own_folder(tmp_path))
    first = worker(folder, extra=STUCK.format(trial=1))
    wait_until_stuck(first, folder)
    first.send_signal(signal.SIGKILL)
    first.wait()
    outcome = ended(worker(folder))
    assert outcome.code == 0, outcome.err
    [lost] = [t for trials in studies(folder).values() for t in trials if t.state == TrialState.FAIL]
    [again] = [t for t in judged(studies(folder)[ROWS[0]]) if t.params == lost.params]
    assert (lost.user_attrs["default"], again.user_attrs["default"]) == (True, True)
    assert all(row["default"] is not None for row in settings(folder)["rows"].values())
    # In any order: a new one may begin before the killed one is known to be dead.
    undisturbed = {name: judged(trials)[:TRIALS] for name, trials in studies(tuned).items()}
    for name, trials in studies(folder).items():
        assert sorted(map(found, judged(trials))) == sorted(map(found, undisturbed[name]))


@pytest.mark.parametrize(("per_epoch", "patience", "expected"), [(1, 2, 6), (3, 2, 2), (2, 1, 2)])
def test_a_trial_is_as_patient_in_samples_as_the_suite(per_epoch, patience, expected):
    training = Training(validations_per_epoch=per_epoch, patience=patience)
    assert _validated_more_often(training, {"dropout": 0.1}).patience == expected


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_whose_process_ended_before_it_began_is_made_again(tmp_path, monkeypatch):
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/tune.db"))
    study.ask()  # and no heartbeat
    row_study = RowStudy(None, None, None, None, study, None, None)
    assert not row_study.has_room(wanted=1, patient=False)  # another process may be about to begin it
    monkeypatch.setattr("suites.tuning.storage.GRACE_SECONDS", 0)
    assert row_study.has_room(wanted=1, patient=False)


def test_a_worker_whose_trial_another_gave_up_makes_it_again(tmp_path):
    folder = two_rows(own_folder(tmp_path), architectures=ROWS[1:], base=None)
    outcome = ended(worker(folder, extra=GIVEN_UP))
    assert outcome.code == 0, outcome.err
    for trials in studies(folder).values():
        assert len(judged(trials)) == TRIALS
    assert all(row["default"] is not None for row in settings(folder)["rows"].values())


def test_two_workers_that_claim_at_the_same_moment_share_the_trials_and_write_one_file(tmp_path):
    folder = two_rows(own_folder(tmp_path))
    processes = [worker(folder, TOGETHER), worker(folder, TOGETHER)]
    outcomes: list[Outcome] = [ended(process) for process in processes]
    assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.err for outcome in outcomes]
    for name, trials in studies(folder).items():
        assert len(judged(trials)) == TRIALS
        assert [trial.user_attrs["default"] for trial in judged(trials)].count(True) == 1
        assert settings(folder)["rows"][name]["trained"] == TRIALS
    for trials in studies(folder, again=True).values():
        keys = [trial.user_attrs["key"] for trial in judged(trials)]
        assert len(keys) == len(set(keys)) == 4  # two settings from two seeds


BROKEN = """
import os, signal, sys, time, torch
class Broken(Shallow):
    def forward(self, tokens):
        if tokens.device.type != "meta":
            self.misbehave()
        return super().forward(tokens)
class Exiting(Broken):
    def misbehave(self):
        sys.exit(0)
class Raising(Broken):
    def misbehave(self):
        raise BaseException("my own fault")
class Killed(Broken):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGKILL)
class Hanging(Broken):
    def misbehave(self):
        time.sleep(600)
class Greedy(Broken):
    def misbehave(self):
        self.much = torch.ones(10**10)
class Meddling(Broken):  # which is no fault of its own row
    def misbehave(self):
        torch.use_deterministic_algorithms(True)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""
OUTCOMES = {
    "own_models:Exiting": "3 of its trials broke, the last by it called sys.exit(0)",
    "own_models:Raising": "3 of its trials broke, the last by BaseException: my own fault",
    "own_models:Killed": "3 of its trials broke, the last by its process was killed (SIGKILL",
    "own_models:Greedy": "3 of its trials broke, the last by it takes more memory than the 2 GB",
}


def test_rows_that_break_are_given_up_and_the_others_are_tuned_as_if_alone(tuned, own, bench):  # noqa: F811
    sound = ["own_models:Meddling", "dlrm_mlp"]
    two_rows(own, architectures=[*OUTCOMES, *sound])
    (own / "own_models.py").write_text((own / "own_models.py").read_text() + BROKEN)
    command = ["tune", "tiny.yaml", "--storage", DATABASE, "--cache", "cache", "--trials", "2"]
    outcome = bench(*command, "--run-gigabytes", "2")
    assert outcome.code == 1
    told = " ".join(outcome.err.split())
    for row, words in OUTCOMES.items():
        assert f"{row}: {words}" in told
    assert not (own / "tuned").exists()
    trials = studies(own)
    assert {row: len(judged(trials[row])) for row in trials} == dict.fromkeys(OUTCOMES, 0) | dict.fromkeys(
        sound, 2
    )
    alone = judged(studies(tuned)["dlrm_mlp"])[:2]
    assert list(map(found, judged(trials["dlrm_mlp"]))) == list(map(found, alone))
    two_rows(own, architectures=sound)  # what the sound rows found is not lost
    assert bench(*command).code == 0
    assert {row: len(studies(own)[row]) for row in sound} == {row: len(trials[row]) for row in sound}
    assert set(settings(own)["rows"]) == set(sound)


def test_a_row_that_hangs_is_given_up(own, bench):  # noqa: F811
    two_rows(own, architectures=["own_models:Hanging"], base=None)
    (own / "own_models.py").write_text((own / "own_models.py").read_text() + BROKEN)
    command = ["tune", "tiny.yaml", "--storage", DATABASE, "--cache", "cache", "--trials", "2"]
    outcome = bench(*command, "--run-minutes", "0.05")
    assert outcome.code == 1
    words = "own_models:Hanging: 3 of its trials broke, the last by it took longer than the 0.05 minutes"
    assert words in " ".join(outcome.err.split())


def test_a_row_that_breaks_where_it_is_built_does_not_keep_the_others_from_being_tuned(own, bench):  # noqa: F811
    two_rows(own, architectures=["own_models:Unbuilt", "own_models:Shallow"], base=None)
    unbuilt = "\nclass Unbuilt(Shallow):\n    def __init__(self, *_, **__):\n        raise SystemExit(3)\n"
    (own / "own_models.py").write_text((own / "own_models.py").read_text() + unbuilt)
    outcome = bench("tune", "tiny.yaml", "--storage", DATABASE, "--cache", "cache", "--trials", "1")
    assert outcome.code == 1
    assert "own_models:Unbuilt: it called sys.exit(3)" in " ".join(outcome.err.split())
    assert {name: len(judged(trials)) for name, trials in studies(own).items()} == {"own_models:Shallow": 1}
    assert not (own / "tuned").exists()


def test_ctrl_c_keeps_what_ended_says_so_and_the_trial_is_made_again_at_once(tmp_path):
    folder = two_rows(own_folder(tmp_path))
    first = worker(folder, extra=STUCK.format(trial=2))
    wait_until_stuck(first, folder)
    first.send_signal(signal.SIGINT)
    outcome = ended(first)
    assert outcome.code == 130
    assert f"the trials that ended are kept in {DATABASE}" in outcome.out + outcome.err
    assert "Traceback" not in outcome.err
    states = [trial.state for trial in studies(folder)[ROWS[0]]]
    assert states == [TrialState.COMPLETE, TrialState.FAIL]  # and not running, to be waited for


ASLEEP = """
from harness.workers.isolation import in_worker
from tests.harness.sleeping import sleep
studies.score_in_worker = lambda trial, *_: in_worker(sleep, Path(f"asleep-{trial.row.name}"))
"""


def test_ctrl_c_ends_all_trials_that_are_made_at_once_and_none_counts_as_broken(tmp_path):
    folder = two_rows(own_folder(tmp_path))
    process = worker(folder, extra="from pathlib import Path" + ASLEEP, jobs=2)
    deadline = time.monotonic() + 300
    while len([path for path in folder.glob("asleep-*") if path.read_text()]) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    outcome = ended(process)
    assert outcome.code == 130
    assert f"the trials that ended are kept in {DATABASE}" in outcome.err
    assert "Traceback" not in outcome.err
    for trials in studies(folder).values():
        assert [(trial.state, "error" in trial.user_attrs) for trial in trials] == [(TrialState.FAIL, False)]


def test_rows_of_a_latency_are_not_tuned_at_once(own, bench):  # noqa: F811
    two_rows(own, budget={"latency_ms_p99": 5.0, "batch_size": 8})
    outcome = bench("tune", "tiny.yaml", "--storage", DATABASE, "--cache", "cache", "--jobs", "2")
    assert outcome.code == 2
    assert "--jobs 2: trials are matched to a latency, which is measured alone" in outcome.err
    assert not (own / "tune.db").exists()


def test_passwords_reach_neither_the_settings_nor_the_terminal(own, bench):  # noqa: F811
    two_rows(own, architectures=ROWS[1:], base=None)
    command = ["tune", "tiny.yaml", "--cache", "cache", "--trials", "1", "--storage"]
    outcomes = [
        bench(*command, "sqlite:///tune.db?user=me&password=s3cret"),
        bench(*command, "postgresql+nosuch://me:s3cret@127.0.0.1:1/x"),
        bench("--debug", *command, "postgresql+nosuch://me:s3cret@127.0.0.1:1/x"),
    ]
    assert [outcome.code for outcome in outcomes] == [0, 2, 1]
    written = (own / "tuned/tiny-mine.yaml").read_text()
    assert "--storage 'sqlite:///tune.db?user=me&password=***'" in written
    assert "postgresql+nosuch://me:***@127.0.0.1:1/x" in outcomes[1].err
    assert "Traceback" in outcomes[2].err
    for text in (written, *(outcome.out + outcome.err for outcome in outcomes)):
        assert "s3cret" not in text


def test_a_folder_that_cannot_hold_the_settings_is_refused_before_the_first_trial(own, bench, monkeypatch):  # noqa: F811
    two_rows(own)
    (own / "tuned").write_text("a file where the folder should be")
    outcome = bench("tune", "tiny.yaml", "--storage", DATABASE, "--cache", "cache")
    assert outcome.code == 2
    assert "tuned: cannot be written to" in " ".join(outcome.err.split())
    assert not (own / "tune.db").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune", "tiny.yaml", "--storage", "sqlite://"], ["--storage sqlite://: a database in memory"]),
        (["run", "tiny.yaml", "--set", "tuned=tiny"], ["tuned/tiny-mine.yaml", "is not there", "tune tiny"]),
        (["tune", "tiny.yaml", "--storage", "nonsense"], ["--storage nonsense", "sqlite:///tune.db"]),
        (["tune", "tiny.yaml", "--set", "search.dense_rate=[1]"], ["'dense_rate' is no setting of training"]),
        (["tune", "tiny.yaml", "--set", "search.dropout=[0.1]"], ["'dropout' lacks 0.0", "list it too"]),
        (["tune", "tiny.yaml", "--set", "search.tokens=[2, 4]"], ["'tokens' lacks 3", "list it too"]),
        (["tune", "tiny.yaml", "--set", "search.tokenizer=[fields]"], ["'tokenizer' lacks chunks"]),
        (["tune", "tiny.yaml", "--trials", "0"], ["--trials", "greater than or equal to 1"]),
        (["tune", "tiny.yaml", "--set", "budget.flops_per_sample=100"], ["dlrm_mlp cannot meet", "308"]),
    ],
)
def test_what_cannot_be_tuned_or_used_is_refused_in_one_sentence(own, bench, arguments, words):  # noqa: F811
    two_rows(own)
    outcome = bench(*arguments, "--cache", "cache")
    assert outcome.code == 2
    for word in words:
        assert word in " ".join(outcome.err.split())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.batch_size=32", ["another training (batch size, epochs, optimizers)"]),
        ("tasks=[click]", ["another choice of tasks"]),
        ("tokens=4", ["dlrm_mlp", "other tokens"]),
        ("training.dense_lr=0.01", ["training.dense_lr", "has no effect", "tuned=null"]),
        ("architectures=[dlrm_mlp, dcn]", ["dcn: has no tuned settings in 'tiny' for 'mine'"]),
    ],
)
def test_settings_that_were_found_for_something_else_are_refused(tuned, bench, monkeypatch, setting, words):  # noqa: F811
    monkeypatch.chdir(tuned)
    outcome = bench("run", "tiny.yaml", "--set", "tuned=tiny", "--set", setting, "--cache", "cache")
    assert outcome.code == 2
    for word in words:
        assert word in " ".join(outcome.err.split())
