"""`oproxy usage`: what it prints of a ledger, and that it needs neither a daemon nor a ledger."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import platformdirs
import pytest
from typer.main import get_command

from ollama_proxy.account import NANO, Entry
from ollama_proxy.cli import usage, usage_show
from ollama_proxy.store import Store
from ollama_proxy.store.rollup import roll_up
from tests.store.rows import entry, put

DAY = 86400


class Ended(NamedTuple):
    """What a command left behind."""

    out: str
    err: str
    code: int

    @property
    def table(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


class Terminal(io.StringIO):
    """A stdout that a person looks at."""

    def isatty(self) -> bool:
        return True


def run(*arguments: str, terminal: bool = False) -> Ended:
    """Run `oproxy usage` in this process."""
    out, err = Terminal() if terminal else io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            get_command(usage.app).main(list(arguments), prog_name="oproxy usage", standalone_mode=False)
            code = 0
        except Exception as exc:
            code = getattr(exc, "exit_code", 1)
            err.write(getattr(exc, "message", repr(exc)))
    return Ended(out.getvalue(), err.getvalue(), code)


@pytest.fixture
def store() -> Iterator[Store]:
    """The user's ledger, open."""
    store = Store.open("", folder=platformdirs.user_data_path("oproxy"), on_change=print)
    yield store
    store.close()


def requests(now: float) -> list[Entry]:
    """Return requests of now, of 3 and of 20 days ago, and of long ago."""
    return [
        entry(now, key="key_a", caller="laptop", prompt=1000, cached=100, completion=50, listed=NANO, cost=0, tag="x"),
        entry(now - 3 * DAY, caller="sk-t***t", asked="llama3.2", prompt=500, completion=100, listed=None),
        entry(now - 3 * DAY, status=429, listed=0),
        entry(now - 20 * DAY, prompt=2000, completion=10, listed=2 * NANO, cost=NANO // 2),
        entry(now - 90 * DAY, prompt=9999, listed=NANO),
    ]


@pytest.fixture
def filled(store: Store) -> Store:
    put(store, requests(time.time()))
    return store


@pytest.fixture
def past_midnight(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """The present, where local clocks show seven minutes past midnight, whatever the minute is in UTC."""
    now = time.time()
    ahead = (7 * 60 - int(now)) % DAY
    monkeypatch.setenv("TZ", f"XXX-{ahead // 3600:02}:{ahead // 60 % 60:02}:{ahead % 60:02}")
    time.tzset()
    yield now
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be changed here")
def test_today_begins_at_local_midnight_also_in_the_middle_of_an_hour(store: Store, past_midnight: float) -> None:
    put(store, [entry(past_midnight - 60), entry(past_midnight - 600)])
    roll_up(store)
    put(store, [entry(past_midnight - 30)])

    today = time.strftime("%Y-%m-%d", time.localtime(past_midnight))
    assert [line[:2] for line in run().table[1:2]] == [["today", "2"]]
    assert [line[:2] for line in run("--by", "day", "--since", "today").table[1:2]] == [[today, "2"]]
    assert run("--since", "yesterday", "--until", "yesterday", "--by", "day").table[1][1] == "1"


# --- at a glance --------------------------------------------------------------------------------------------------


def test_a_glance_in_a_pipe_is_three_lines_with_tabs(filled: Store) -> None:
    told = run()

    head, today, week, month = told.table
    assert head == ["TIME", "REQUESTS", "ERRORS", "PROMPT", "CACHED", "ANSWER", "COST", "LIST", "SAVED"]
    assert today == ["today", "1", "0", "1000", "100", "50", "$0", "$1.00", "$1.00"]
    assert week == ["7 days", "3", "1", "1500", "100", "150", "$0", "$1.00", "$1.00"]
    assert month == ["30 days", "4", "1", "3500", "100", "160", "$0.5000", "$3.00", "$2.50"]
    assert told.err == ""


def test_a_glance_on_a_terminal_has_a_chart_the_models_and_what_was_saved(filled: Store) -> None:
    told = run(terminal=True).out

    assert "█" in told
    assert "2.01k tokens" in told
    assert "llama3.2" in told
    assert "$2.50 saved in 30 days." in told


def test_a_glance_as_json_has_days_and_models(filled: Store) -> None:
    told = json.loads(run("--json").out)

    assert told["30_days"]["requests"] == 4
    assert (told["30_days"]["cost"], told["30_days"]["list"], told["30_days"]["saved"]) == (0.5, 3.0, 2.5)
    assert len(told["days"]) == 30
    assert told["days"][-1]["day"] == time.strftime("%Y-%m-%d")
    assert told["days"][-1]["requests"] == 1
    assert {row["model"]: row["list"] for row in told["models"]} == {"gpt-5": 3.0, "llama3.2": None}


def test_roll_ups_change_nothing_of_what_is_told(filled: Store) -> None:
    before = run("--by", "day,model", "--since", "100d").out
    roll_up(filled)

    assert run("--by", "day,model", "--since", "100d").out == before
    assert before.count("\n") == 6


# --- by, only, since ----------------------------------------------------------------------------------------------


def test_sums_by_several_things(filled: Store) -> None:
    told = run("--by", "model", "--by", "status")

    assert told.table[0][:4] == ["MODEL", "STATUS", "REQUESTS", "ERRORS"]
    assert [row[:3] for row in told.table[1:]] == [
        ["gpt-5", "200", "2"], ["llama3.2", "200", "1"], ["gpt-5", "429", "1"],
    ]  # fmt: skip
    assert run("--by", "model,status").out == told.out


def test_days_come_in_order_and_are_local(filled: Store) -> None:
    days = [row[0] for row in run("--by", "day", "--since", "30d").table[1:]]

    assert days == sorted(days)
    assert days[-1] == time.strftime("%Y-%m-%d")


def test_a_caller_without_a_key_goes_by_what_was_sent(filled: Store) -> None:
    assert {row[0] for row in run("--by", "key").table[1:]} == {"laptop", "sk-t***t", "-"}


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--model", "gpt-*"], 3),
        (["--model", "gpt-5,llama3.2"], 4),
        (["--key", "laptop"], 1),
        (["--tag", "x"], 1),
        (["--status", "error"], 1),
        (["--status", "429", "--model", "llama3.2"], 0),
        (["--since", "4d"], 3),
        (["--since", "100d"], 5),
        (["--since", "100d", "--until", "10d"], 2),
    ],
)
def test_only_what_is_asked_for_counts(filled: Store, arguments: list[str], count: int) -> None:
    rows = json.loads(run("--by", "model", *arguments, "--json").out)

    assert rows["total"]["requests"] == count


def test_what_the_tokens_would_cost_elsewhere(filled: Store) -> None:
    told = run("--as", "gpt-5,claude-sonnet-4-5", "--since", "1h")

    assert told.table[0][-2:] == ["AS gpt-5", "AS claude-sonnet-4-5"]
    # 900 prompt tokens at $1.25 a million, 100 cached at $0.125, 50 of the answer at $10.
    assert told.table[1][-2:] == ["$0.0016", "$0.0035"]
    assert "base tier" in told.err
    exact = json.loads(run("--as", "gpt-5", "--since", "1h", "--json").out)["total"]["as"]["gpt-5"]
    assert exact == pytest.approx((900 * 1.25 + 100 * 0.125 + 50 * 10) / 1e6)


def test_csv_has_a_line_for_each_sum(filled: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(run("--by", "model", "--csv", "--as", "gpt-5").out)))

    assert [(row["model"], row["requests"], row["list"]) for row in rows] == [
        ("gpt-5", "3", "3.0"), ("llama3.2", "1", ""),
    ]  # fmt: skip
    assert float(rows[0]["as gpt-5"]) > 0


def test_a_table_on_a_terminal_has_a_total(filled: Store) -> None:
    assert run("--by", "model", terminal=True).out.splitlines()[-1].split()[:2] == ["total", "4"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--by", "colour"], "--by colour"),
        (["--by", "day,day"], "twice"),
        (["--since", "1d", "--until", "2d"], "--since is not before"),
        (["--since", "soon"], "'soon' is no time"),
        (["--status", "bad"], "--status bad"),
        (["--as", "no-such-model"], "no list price is known"),
        (["--json", "--csv"], "Choose one"),
    ],
)
def test_a_question_without_sense_is_refused(filled: Store, arguments: list[str], word: str) -> None:
    told = run(*arguments)

    assert (told.code, told.out) == (2, "")
    assert word in told.err


def test_without_a_ledger_there_is_nothing_and_it_says_so() -> None:
    told = run()

    assert told.code == 0
    assert told.table[1] == ["today", *["0"] * 5, *["$0"] * 3]
    assert "There is no ledger" in told.err
    assert not (platformdirs.user_data_path("oproxy") / "oproxy.db").exists()


def test_another_place_is_read_where_the_settings_name_one(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[store]\nurl = "sqlite:///{tmp_path}/other.db"\n')
    store = Store.open(f"sqlite:///{tmp_path}/other.db", folder=tmp_path, on_change=print)
    put(store, [entry(time.time(), prompt=7)])
    store.close()

    assert run("--since", "1h", "--config", str(config)).table[1][2] == "7"


def test_it_imports_neither_sqlalchemy_nor_rich_and_takes_no_daemon(filled: Store) -> None:
    code = (
        "import sys\nfrom ollama_proxy.cli.app import app\ntry:\n    app(['usage', '--by', 'day,model'])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print([name for name in ('sqlalchemy', 'rich', 'aiohttp', 'genai_prices') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)

    assert said.stdout.splitlines()[-1] == "[]"


# --- prune --------------------------------------------------------------------------------------------------------


def test_prune_deletes_rows_and_keeps_their_sums(filled: Store) -> None:
    before = run("--by", "day", "--since", "100d").out
    told = run("prune", "--before", "10d", "--yes")

    assert told.code == 0
    # Of two that old; the row that was written last stays.
    assert told.err.startswith("1 row of before ")
    assert run("--by", "day", "--since", "100d").out == before
    assert "0 rows" in run("prune", "--before", "10d", "--yes").err


def test_prune_needs_a_yes(filled: Store) -> None:
    told = run("prune", "--before", "10d")

    assert told.code == 1
    assert "--yes" in told.err


# --- pieces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0"), (None, "?"), (NANO, "$1.00"), (1_234_567 * NANO, "$1,234,567.00"), (NANO // 4, "$0.2500"),
        (150, "$0.000000150"), (-NANO, "-$1.00"),
    ],
)  # fmt: skip
def test_money_is_told_with_as_many_digits_as_it_needs(nano: int | None, text: str) -> None:
    assert usage_show.money(nano) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (12_345, "12.3k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (10**15, "1000T"),
    ],
)
def test_numbers_on_a_terminal_are_short(count: int, text: str) -> None:
    with contextlib.redirect_stdout(Terminal()):
        assert usage_show.tokens(count) == text


def test_a_watch_looks_again_until_it_is_interrupted() -> None:
    done: list[str | float] = []

    def sleep(seconds: float) -> None:
        done.append(seconds)
        if len(done) == 4:
            raise KeyboardInterrupt

    usage.again(lambda: done.append("look"), sleep)

    assert done == ["look", usage.AGAIN, "look", usage.AGAIN]
