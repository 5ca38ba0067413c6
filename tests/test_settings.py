"""Where values come from, and how wrong ones are refused."""

from pathlib import Path
from traceback import format_exception

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebro_nb import Client, GenerationOptions, Ledger, ScriptedBackend, errors, load_settings, process_in_batches
from cerebro_nb.addresses import ollama_address, parse_address
from cerebro_nb.concurrency.loop import LOOP
from cerebro_nb.launching.resuming import arerun_run, aresume_run


def write(path, text):
    path.write_text(text, encoding="utf-8")


def test_argument_beats_environment_beats_file_beats_default(tmp_path):
    write(tmp_path / "cerebro.toml", 'model = "file"\nlanguage = "de"\n[generation]\nseed = 1\ntop_p = 0.5\n')
    environ = {"CEREBRO_MODEL": "environment", "CEREBRO_GENERATION__SEED": "2"}
    settings = load_settings(environ, model="argument")
    assert (settings.model, settings.language, settings.generation.seed) == ("argument", "de", 2)
    assert settings.generation.top_p == 0.5 and settings.generation.temperature == 0.7
    assert load_settings(environ).model == "environment" and load_settings({}).model == "file"


def test_a_profile_may_name_only_what_it_changes_and_a_new_one_may_be_added(tmp_path):
    write(tmp_path / "cerebro.toml", "[profiles.research]\nconcurrency = 7\n[profiles.mine]\nbatch_size = 20\n")
    profiles = load_settings({}).profiles
    assert (profiles["research"].concurrency, profiles["research"].batch_size) == (7, 5)
    assert (profiles["mine"].name, profiles["mine"].batch_size, profiles["mine"].delay_s) == ("mine", 20, 1.0)


WRONG = [
    ("temperature = 3", "generation.temperature = 3", "less than or equal to 2"),
    ("num_ctx = 0", "generation.num_ctx = 0", "greater than or equal to 1"),
    ("top_p = 'x'", "generation.top_p = 'x'", "valid number"),
    ("keep_alive = 'for ever'", "generation.keep_alive", "match pattern"),
    ("temprature = 1", "generation.temprature", "there is no setting of that name"),
]


@pytest.mark.parametrize(("line", "name", "expected"), WRONG)
def test_a_wrong_value_is_refused_with_its_name_its_range_and_its_source(tmp_path, line, name, expected):
    write(tmp_path / "cerebro.toml", f"[generation]\n{line}\n")
    with pytest.raises(errors.SettingsError) as refused:
        load_settings({})
    assert name in str(refused.value) and expected in str(refused.value) and "(cerebro.toml)" in str(refused.value)


def test_the_source_of_a_refused_value_may_be_any(tmp_path):
    with pytest.raises(errors.SettingsError, match=r"\(argument\)"):
        load_settings({}, generation={"seed": -1})
    with pytest.raises(errors.SettingsError, match=r"\(environment CEREBRO_PROFILES__AUTO__CONCURRENCY\)"):
        load_settings({"CEREBRO_PROFILES__AUTO__CONCURRENCY": "0"})
    with pytest.raises(errors.SettingsError, match="num_predict"):
        load_settings({}).options(num_predict=0)
    with pytest.raises(errors.SettingsError, match="base_url"):
        load_settings({}, base_url="http://user:secret@host")


@pytest.mark.parametrize(
    "values",
    [
        {"base_url": "http://user:s3cret@host"},
        {"fallback": {"base_url": "http://user:s3cret@host"}},
        {"databse_url": "postgresql://user:s3cret@host/db"},
    ],
)
def test_a_refused_address_is_not_repeated_where_it_may_hold_a_password(values):
    with pytest.raises(errors.SettingsError) as refused:
        load_settings({}, **values)
    assert "(not shown)" in refused.value.message and "s3cret" not in "".join(format_exception(refused.value))


def test_a_group_that_is_given_a_single_value_is_refused(tmp_path, caplog):
    for values in ({"profiles": "fast"}, {"profiles": {"mine": "fast"}}, {"generation": "hot"}):
        with pytest.raises(errors.SettingsError, match=f"{next(iter(values))}.*{'fast|hot'}.*argument"):
            load_settings({}, **values)
    write(tmp_path / "cerebro.toml", 'generation = "hot"\n')
    with pytest.raises(errors.SettingsError, match=r"generation \(cerebro\.toml\)"):
        load_settings({"CEREBRO_GENERATION__SEED": "1"})
    (tmp_path / "cerebro.toml").unlink()
    assert load_settings({"CEREBRO_PROFILES": "fast"}) == load_settings({})
    assert "CEREBRO_PROFILES is no setting" in caplog.text


def test_a_wrong_name_is_told_with_the_names_of_its_section(tmp_path):
    write(tmp_path / "cerebro.toml", "[generation]\ntemprature = 1\n")
    with pytest.raises(errors.SettingsError, match=r"meant to be temperature\?") as refused:
        load_settings({})
    assert "top_p" in refused.value.hint and "base_url" not in refused.value.hint


def test_a_file_that_is_no_toml_or_not_there_is_said(tmp_path):
    write(tmp_path / "cerebro.toml", "model = ")
    with pytest.raises(errors.SettingsError, match=r"cerebro\.toml cannot be read"):
        load_settings({})
    with pytest.raises(errors.SettingsError, match="CEREBRO_CONFIG names"):
        load_settings({"CEREBRO_CONFIG": str(tmp_path / "none.toml")})


def test_the_training_preset_goes_to_1000_tokens_and_a_call_further():
    assert load_settings({}, training={"num_predict": 1000}).options(is_training=True).num_predict == 1000
    with pytest.raises(errors.SettingsError, match="less than or equal to 1000"):
        load_settings({}, training={"num_predict": 1001})
    assert load_settings({}).options(is_training=True, num_predict=5000).num_predict == 5000


@given(
    st.dictionaries(
        st.sampled_from(sorted(GenerationOptions.model_fields)), st.none() | st.integers() | st.text() | st.floats()
    )
)
def test_options_are_either_in_range_or_refused_by_name(values):
    try:
        options = load_settings({}).options(**values)
    except errors.SettingsError as refused:
        assert refused.details["setting"].split(".")[0] in values
    else:
        assert 0 <= options.temperature <= 2 and 0 < options.timeout_s <= 86_400 and options.num_ctx >= 1


@given(st.text(max_size=40))
def test_any_ollama_host_gives_an_address_or_an_error_of_ours(host):
    try:
        assert "://" in ollama_address({"OLLAMA_HOST": host}).url
    except errors.SettingsError as refused:
        assert "OLLAMA_HOST" in refused.message


@given(st.text(max_size=40))
def test_any_address_is_read_again_as_it_was_read_or_refused(text):
    try:
        address = parse_address(text)
    except errors.SettingsError:
        return
    assert (
        parse_address(address.url).url == address.url and "@" not in address.url.partition("://")[2].partition("/")[0]
    )


def test_a_ledger_that_the_working_folder_names_sends_nobody_elsewhere(tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CEREBRO_DATA_DIR", raising=False)
    monkeypatch.delenv("CEREBRO_CONFIG", raising=False)
    Path("cerebro.toml").write_text('data_dir = "."\n')
    with Ledger("sqlite:///cerebro.db") as ledger:
        client = Client(ScriptedBackend(["x"]), "tiny")
        task = process_in_batches(["a"], "{item}", quick, client=client, ledger=ledger, show_progress=False).task
        elsewhere = {**task.manifest, "backend": "openai", "base_url": "http://203.0.113.5:8000/v1"}
        ledger.update_task(task.id, manifest=elsewhere)
        with pytest.raises(errors.SettingsError, match="not trusted"):
            LOOP.run(arerun_run(task.id, ledger=ledger))
        ledger.update_task(task.id, status="interrupted", total_items=2)
        with pytest.raises(errors.SettingsError, match="not trusted"):
            LOOP.run(aresume_run(task.id, items=["a", "b"], ledger=ledger))
        ledger.update_task(task.id, manifest={**elsewhere, "base_url": [{"of": "nothing"}]})
        with pytest.raises(errors.SettingsError, match="not trusted"):
            LOOP.run(arerun_run(task.id, ledger=ledger))
        ledger.update_task(task.id, manifest={**elsewhere, "base_url": "http://127.0.0.1:8000/v1"})
        LOOP.run(arerun_run(task.id, ledger=ledger))
        ledger.update_task(task.id, manifest=elsewhere)
        monkeypatch.setenv("CEREBRO_CONFIG", "cerebro.toml")
        LOOP.run(arerun_run(task.id, ledger=ledger))


def test_the_address_of_a_database_is_never_repeated(tmp_path):
    for address in ("postgresql://u:pa@ss:word9@127.0.0.1/x", "postgresql://u:word9@127.0.0.1:abc/x", "word9"):
        with pytest.raises(errors.LedgerError) as refused:
            Ledger(address)
        assert "word9" not in "".join(format_exception(refused.value))
