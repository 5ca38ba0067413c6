"""The notebooks for users that take parameters leave their manifest."""

import json
from pathlib import Path

import papermill
import pytest

pytestmark = pytest.mark.costly

TUTORIALS = Path(__file__).parents[1] / "nbs" / "tutorials"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_a_notebook_is_run_with_parameters_and_leaves_its_manifest(tmp_path):
    parameters = {"subject": "green tea", "n": 2, "seed": 3, "folder": "out"}
    papermill.execute_notebook(
        TUTORIALS / "6_a_reproducible_run.ipynb",
        tmp_path / "ran.ipynb",
        parameters=parameters,
        cwd=tmp_path,
        kernel_name="python3",
        language="python",
        progress_bar=False,
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["subject"], manifest["seed"], manifest["ok_items"]) == ("green tea", 3, 2)
    assert len((tmp_path / "out" / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert "2 of 2 answers are the same to the byte" in (tmp_path / "ran.ipynb").read_text(encoding="utf-8")
