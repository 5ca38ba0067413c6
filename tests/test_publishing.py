"""A data set on a hub: private, whole, by name alone, and every refusal said."""

import json
import os
import subprocess
import sys

import datasets
import pytest
from hub_writing import WritableHub

from cerebro_nb import errors, export_dataset, import_rows, process_in_batches, push_dataset
from cerebro_nb.cli.main import main
from cerebro_nb.datasets.formats import FORMATS
from cerebro_nb.datasets.trainers import TRAINERS

KEY = "hf_thisIsAKeyThatNobodyMaySee"


@pytest.fixture
def hub(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with WritableHub(KEY) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_TOKEN", KEY)
        yield served


@pytest.fixture
def task_id():
    return process_in_batches(["black", "green"], str.upper, show_progress=False).task_id


@pytest.fixture
def made(task_id, tmp_path):
    return export_dataset(task_id, tmp_path / "tea", gates=False, embedder="none").path


def told(raised):
    """All that an error says, with what it came from."""
    error, texts = raised.value, []
    while error is not None:
        texts.append(f"{error} {error!r}")
        error = error.__cause__
    return " ".join(texts)


def test_an_export_goes_to_a_hub_whole_and_private(hub, task_id, tmp_path):
    exported = export_dataset(task_id, tmp_path / "tea", gates=False, embedder="none", push="me/tea")
    assert exported.address == f"{hub.url}/datasets/me/tea" and hub.private == {"me/tea": True}
    here = {file.name: file.read_bytes() for file in exported.path.iterdir()}
    assert set(here) == set(hub.files["me/tea"]) == {"README.md", "manifest.json", "train.jsonl"}
    assert all(hub.files["me/tea"][name] == here[name] for name in ("README.md", "train.jsonl"))


def test_what_was_pushed_is_loaded_by_its_card(hub, made, tmp_path):
    push_dataset(made, "me/tea")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in hub.files["me/tea"].items():
        (copy / name).write_bytes(content)
    loaded = datasets.load_dataset(str(copy), cache_dir=str(tmp_path / "cache"))
    assert [row["output"] for row in loaded["train"]] == ["BLACK", "GREEN"] and set(loaded) == {"train"}


def test_without_a_push_nobody_is_asked(hub, task_id, tmp_path):
    export_dataset(task_id, tmp_path / "tea", gates=False, embedder="none", trainer=None)
    assert hub.requests == []


def test_the_command_says_where_it_is_and_never_the_key(hub, task_id, tmp_path, capfd):
    words = ["export", task_id, "--to", str(tmp_path / "tea"), "--no-gates", "--embedder", "none", "--push", "me/tea"]
    assert main([*words, "--public"]) == 0
    said = capfd.readouterr()
    assert f"Pushed to {hub.url}/datasets/me/tea." in said.out and KEY not in said.out + said.err
    assert hub.private == {"me/tea": False}


def test_what_is_public_gets_nothing_that_was_to_be_private(hub, made):
    hub.add("me/tea", private=False)
    with pytest.raises(errors.PushFailed, match="is public"):
        push_dataset(made, "me/tea")
    assert hub.writes == []
    push_dataset(made, "me/tea", private=False)
    assert "train.jsonl" in hub.files["me/tea"]


def test_what_holds_files_is_written_over_only_if_that_is_said(hub, made):
    hub.add("me/tea", private=True, **{"notes.txt": b"years of work"})
    with pytest.raises(errors.PushFailed, match="holds 1 files already"):
        push_dataset(made, "me/tea")
    assert hub.writes == []
    push_dataset(made, "me/tea", overwrite=True)
    assert hub.files["me/tea"]["notes.txt"] == b"years of work" and "README.md" in hub.files["me/tea"]


STRANGE = [
    *("outputs/adapter.json", "adapter.gguf", ".env.json"),
    *("service_account.json", "notes.md", "train.py", "train.csv", "test.jsonl", "dataset/thesis.txt", "Modelfile"),
]


def test_what_came_to_lie_beside_a_data_set_does_not_go_along(hub, made):
    for name in STRANGE:
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text("{}")
    push_dataset(made, "me/tea")
    assert set(hub.files["me/tea"]) == {"README.md", "manifest.json", "train.jsonl"}


@pytest.mark.parametrize(
    "options", [*({"format": name} for name in FORMATS), *({"trainer": name} for name in TRAINERS)]
)
def test_all_that_an_export_wrote_goes_along(hub, options, tmp_path):
    asked = ("Why is tea green?", "Where do bees sleep in winter?", "Who sells wax?", "Which river runs to the north?")
    rows = [{"question": text, "answer": f"It is so, says the one who knows: {text}"} for text in asked]
    task_id = import_rows(rows, kind="qa", show_progress=False).task_id
    exported = export_dataset(
        task_id, tmp_path / "tea", gates=False, distinct=False, test_share=0.3, push="me/tea", **options
    )
    here = {file.relative_to(exported.path).as_posix() for file in exported.path.rglob("*") if file.is_file()}
    assert set(hub.files["me/tea"]) == here and any("test" in name for name in here)


def test_what_belongs_to_this_machine_stays_here(hub, made):
    manifest = json.loads((made / "manifest.json").read_text())
    (task,) = manifest["tasks"].values()
    sources = ("/home/me/secret/tea.md", r"C:\Users\me\tea.pdf", "https://example.org/tea")
    task |= {"documents": [{"source": source, "sha256": "ab12"} for source in sources]}
    task |= {"base_url": "http://10.0.0.7:11434", "judge": {"model": "tiny", "base_url": "http://10.0.0.8:11434"}}
    (made / "manifest.json").write_text(json.dumps(manifest))
    push_dataset(made, "me/tea")
    sent = json.loads(hub.files["me/tea"]["manifest.json"])
    (told,) = sent["tasks"].values()
    assert [document["source"] for document in told["documents"]] == ["tea.md", "tea.pdf", "https://example.org/tea"]
    assert told["judge"] == {"model": "tiny"} and "base_url" not in told
    assert sent["parts"] == manifest["parts"] and sent.keys() == manifest.keys()
    assert json.loads((made / "manifest.json").read_text()) == manifest


def test_what_the_earlier_data_set_had_goes_with_the_commit_of_the_new_one(hub, task_id, made, tmp_path):
    options = {"gates": False, "embedder": "none", "push": "me/tea"}
    export_dataset(task_id, tmp_path / "first", format="csv", test_share=0.5, **options)
    assert {"train.csv", "test.csv"} < set(hub.files["me/tea"])
    hub.files["me/tea"] |= {"notes.txt": b"years of work", "test.parquet": b"somebody's", ".gitattributes": b""}
    before = len(hub.writes)
    push_dataset(made, "me/tea", overwrite=True)
    ours = {"README.md", "manifest.json", "train.jsonl"}
    assert set(hub.files["me/tea"]) == ours | {"notes.txt", "test.parquet", ".gitattributes"}
    assert len(hub.writes) == before + 1


@pytest.mark.parametrize("manifest", [b"", b"[]", b'{"name": "another"}'])
def test_where_no_manifest_of_ours_is_nothing_is_deleted(hub, made, manifest):
    theirs = {"manifest.json": manifest, "train.csv": b"a", "dataset/a": b"b"}
    hub.add("me/tea", private=True, **theirs)
    push_dataset(made, "me/tea", overwrite=True)
    assert set(hub.files["me/tea"]) == {*theirs, "README.md", "train.jsonl"}


@pytest.mark.parametrize("key", ["", "hf_anotherOne"])
def test_a_key_that_is_none_is_said_and_the_export_is_there(hub, key, made, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", key)
    with pytest.raises(errors.PushFailed, match="does not know the key" if key else "has no key") as refused:
        push_dataset(made, "me/tea")
    assert "HF_TOKEN" in refused.value.hint and (not key or key not in told(refused)) and hub.files == {}
    assert (made / "train.jsonl").exists()


def test_a_key_on_the_disk_is_not_taken(hub, made, monkeypatch, tmp_path):
    (tmp_path / "token").write_text(KEY)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(errors.PushFailed, match="has no key"):
        push_dataset(made, "me/tea")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("repository", "commit", "said"),
    [
        ("others/tea", 0, "may not write to others/tea"),
        ("me/tea", 403, "may not write"),
        ("me/tea", 404, "has no place"),
    ],
)
def test_who_may_not_write_is_told(hub, repository, commit, said, made):
    hub.refused_with = commit
    with pytest.raises(errors.PushFailed, match=said) as refused:
        push_dataset(made, repository)
    assert refused.value.hint and KEY not in told(refused) and not hub.files.get(repository)


def test_a_hub_that_is_not_there_is_said(hub, made, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(errors.PushFailed, match="does not answer") as gone:
        push_dataset(made, "me/tea")
    assert "HF_ENDPOINT" in gone.value.hint and KEY not in told(gone)


def test_what_is_no_hub_is_said(hub, made):
    hub.add("me/tea", private=True)
    hub.told = lambda repository: ["no", "hub"]
    with pytest.raises(errors.PushFailed, match="cannot be read"):
        push_dataset(made, "me/tea")


def test_offline_is_heeded_before_anything_is_read(hub, task_id, tmp_path):
    words = ["export", task_id, "--to", str(tmp_path / "tea"), "--push", "me/tea"]
    command = [sys.executable, "-c", "import sys; from cerebro_nb.cli.main import main; sys.exit(main(sys.argv[1:]))"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and "HF_HUB_OFFLINE is set" in ended.stderr and hub.requests == []
    assert not (tmp_path / "tea").exists()


@pytest.mark.parametrize("name", ["tea", "me/tea/green", "me/..", "me/ tea", "https://hub/me/tea", "me/tea\n"])
def test_what_names_no_repository_is_refused_before_anything_is_read(hub, name, task_id, tmp_path):
    with pytest.raises(errors.InputError, match="names no repository"):
        export_dataset(task_id, tmp_path / "tea", push=name)
    assert hub.requests == [] and not (tmp_path / "tea").exists()


def test_what_is_no_data_set_of_ours_is_not_sent(hub, tmp_path):
    (tmp_path / "README.md").write_text("# mine")
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "another"}))
    with pytest.raises(errors.InputError, match="no data set of ours"):
        push_dataset(tmp_path, "me/tea")
    assert hub.requests == []


def test_without_the_extra_it_is_said_which(hub, made, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(errors.MissingDependency) as missing:
        push_dataset(made, "me/tea")
    assert "cerebro-nb[hub]" in missing.value.hint


def test_without_the_extra_it_is_said_before_anything_is_written(hub, task_id, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(errors.MissingDependency, match="huggingface_hub"):
        export_dataset(task_id, tmp_path / "tea", gates=False, embedder="none", push="me/tea")
    assert not (tmp_path / "tea").exists() and hub.requests == []


# --- whole, here, and of this machine nothing


def lost(made):
    (made / "train.jsonl").unlink()


def cut(made):
    rows = (made / "train.jsonl").read_text().splitlines(keepends=True)
    (made / "train.jsonl").write_text("".join(rows[:-1]))


def changed(made):
    rows = (made / "train.jsonl").read_text()
    (made / "train.jsonl").write_text(rows.replace("BLACK", "WHITE"))


def without_hashes(made):
    """An export as it was made before its manifest had hashes."""
    manifest = json.loads((made / "manifest.json").read_text())
    del manifest["files"]
    (made / "manifest.json").write_text(json.dumps(manifest))
    cut(made)


def linked(made):
    (made / "train.jsonl").rename(made.parent / "elsewhere.jsonl")
    (made / "train.jsonl").symlink_to(made.parent / "elsewhere.jsonl")


@pytest.mark.parametrize("fault", [lost, cut, changed, without_hashes, linked])
def test_rows_that_are_not_those_that_were_written_stay_here(fault, hub, made):
    fault(made)
    with pytest.raises(errors.InputError, match=r"is not whole|leads out of it") as refused:
        push_dataset(made, "me/tea")
    assert "train" in refused.value.message and "Export" in refused.value.hint and hub.requests == []


def test_a_card_that_was_edited_goes_along(hub, made):
    (made / "README.md").write_text("# Tea, with a word of its maker")
    push_dataset(made, "me/tea")
    assert b"a word of its maker" in hub.files["me/tea"]["README.md"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_data_set_of_every_format_is_whole(format, hub, task_id, tmp_path):
    options = {"format": format, "gates": False, "embedder": "none", "test_share": 0.5}
    export_dataset(task_id, tmp_path / "tea", push="me/tea", **options)
    assert json.loads(hub.files["me/tea"]["manifest.json"])["files"]


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_rows_name_their_documents_without_the_folders_of_this_machine(format, hub, tmp_path):
    sources = ["/home/ann/secret/tea.md", r"C:\Users\ann\tea.md", "file:///home/ann/tea.md", "~/ann/tea.md"]
    kept = ["https://example.org/ann/tea", "ann/tea.md"]
    rows = [{"note": f"note {n}", "source": source} for n, source in enumerate([*sources, *kept])]
    task_id = process_in_batches(rows, lambda row: {"said": row["note"]}, show_progress=False).task_id
    given = {"format": format, "gates": False, "distinct": False}
    made = export_dataset(task_id, tmp_path / "tea", push="me/tea", **given)
    sent = hub.files["me/tea"][f"train.{format}"].decode()
    assert "secret" not in sent and "Users" not in sent and sent.count("tea.md") == 5
    assert all(source in sent for source in kept) and sent == (made.path / f"train.{format}").read_text()


@pytest.mark.parametrize(
    "endpoint", ["hub.example", "https://", "https://hub:port", "https://hub example", "ftp://hub"]
)
def test_an_endpoint_that_is_no_address_is_said_before_anything_is_written(
    endpoint, hub, task_id, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(errors.SettingsError, match="HF_ENDPOINT") as odd:
        export_dataset(task_id, tmp_path / "tea", gates=False, embedder="none", push="me/tea")
    assert odd.value.hint and not (tmp_path / "tea").exists() and hub.requests == []


@pytest.mark.parametrize("odd", [{"private": "no"}, {"overwrite": 1}, {"path": 3}, {"repository": ["me/tea"]}])
def test_what_is_of_another_type_is_refused_by_name(odd, hub, made):
    ((name, _),) = odd.items()
    with pytest.raises(errors.SettingsError, match=rf"^{name} = .*\(argument\)"):
        push_dataset(**{"path": made, "repository": "me/tea", **odd})
    assert hub.requests == []
