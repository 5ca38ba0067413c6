"""Build the sdist, the wheel from the sdist, and use that wheel as a user does: installed in an empty environment.

python scripts/artefacts.py         # build, look, use
python scripts/artefacts.py dist    # and keep what is published there, with a bill of materials and the hashes of all
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

from trove_classifiers import classifiers

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "lock.txt"
NEEDED = {
    "cerebro_nb/__init__.py",
    "cerebro_nb/py.typed",
    "cerebro_nb/locale/pt_BR/LC_MESSAGES/cerebro.mo",
    *(str(path.relative_to(ROOT)) for path in (ROOT / "cerebro_nb" / "panels" / "static").rglob("*") if path.is_file()),
}


def run(*words: str | Path, cwd: Path, **more: str) -> str:
    """Run a command, show it and what it says, and return that; it must end well."""
    print("+", *words, flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CEREBRO_", "PYTHON"))}
    environment |= {"CEREBRO_DATA_DIR": str(cwd / "data"), "XDG_DATA_HOME": str(cwd / "share")} | more
    ended = subprocess.run(words, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    print(ended.stdout, flush=True)
    ended.check_returncode()
    return ended.stdout


def built(folder: Path) -> Path:
    """Build the artefacts, the wheel from the sdist, see that an index takes them, and return the wheel."""
    run(
        sys.executable,
        "-m",
        "build",
        "--installer",
        "pip",
        "--outdir",
        folder,
        ROOT,
        cwd=folder,
        PIP_CONSTRAINT=str(LOCK),
    )
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel, cwd=folder)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"settings.ini", "setup.py", "LICENSE", "README.md", *NEEDED} <= names, sorted(names)
    assert not any(name.startswith(("tests", "bench", "nbs")) for name in names), sorted(names)
    return wheel


def check_wheel(wheel: Path) -> None:
    """See that a wheel has all that is used, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (Parser().parsestr(archive.read(name).decode()) for name in names if name.endswith("/METADATA"))
    assert names >= NEEDED, NEEDED - names
    assert any(name.endswith("licenses/LICENSE") for name in names), sorted(names)
    tops = {name.split("/")[0] for name in names}
    assert tops == {"cerebro_nb", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}, tops
    assert "<" not in metadata["Requires-Python"], metadata["Requires-Python"]
    assert metadata["License-Expression"] == "Apache-2.0" and metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert set(metadata.get_all("Classifier")) <= classifiers, set(metadata.get_all("Classifier")) - classifiers
    urls = {url.partition(",")[0] for url in metadata.get_all("Project-URL")}
    assert urls >= {"Documentation", "Changelog", "Source", "Issues"}, urls


SIZES = """
from importlib.metadata import distributions
whole = sorted(
    (sum(path.stat().st_size for file in found.files if (path := found.locate_file(file)).suffix != ".pyc"), found.name)
    for found in distributions() if found.name not in ("pip", "setuptools")
)
print(f"{sum(size for size, _ in whole) / 1e6:.0f} MB in {len(whole)} packages, without compiled bytecode:")
print(*(f"{size / 1e6:6.1f} {name}" for size, name in whole[:-13:-1]), sep="\\n")
"""


def use(wheel: Path, folder: Path) -> Path:
    """Install a wheel in an empty environment, do the main job with it, and return that environment's Python."""
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python, cerebro = folder / "venv" / "bin" / "python", folder / "venv" / "bin" / "cerebro"
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    # A list of constraints with hashes is pip 26.1's; no hash of pip itself stands in it.
    run(*pip, "install", "--quiet", "--upgrade", "pip>=26.1", cwd=folder)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    locked = ("--quiet", "--only-binary", ":all:", "--constraint", LOCK)
    for extra in ("", "[embedded]"):
        wanted = folder / "wanted.txt"
        wanted.write_text(f"cerebro-nb{extra} @ {wheel.as_uri()} --hash=sha256:{digest}\n", encoding="utf-8")
        run(*pip, "install", *locked, "--requirement", wanted, cwd=folder)
        if not extra:
            run(python, "-c", SIZES, cwd=folder)
    run(*pip, "check", cwd=folder)
    assert run(cerebro, "--version", cwd=folder).strip() == f"cerebro {wheel.name.split('-')[1]}"
    place = run(cerebro, "pull", "smollm2", cwd=folder)
    assert str(folder) in place and run(cerebro, "pull", "smollm2", cwd=folder) == place
    assert "Saved 6 examples" in run(cerebro, "demo", cwd=folder)
    assert "/venv/" in run(python, "-c", "import cerebro_nb; print(cerebro_nb.__file__)", cwd=folder)
    return python


def keep(folder: Path, python: Path, kept: Path) -> None:
    """Keep what is published, with a bill of materials of what was installed, and the hashes of all."""
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for path in (*folder.glob("*.tar.gz"), *folder.glob("*.whl")):
        shutil.copy(path, kept)
    name = next(kept.glob("*.tar.gz")).name.removesuffix(".tar.gz")
    words = ("environment", python, "--output-reproducible", "--validate", "--output-file", kept / f"{name}.cdx.json")
    run(sys.executable, "-m", "cyclonedx_py", *words, cwd=folder)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(kept.iterdir())]
    (kept / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(*lines, sep="\n")


def main() -> None:
    """Build, look, use, and keep."""
    with tempfile.TemporaryDirectory(prefix="cerebro-artefacts-") as name:
        folder = Path(name).resolve()
        wheel = built(folder)
        check_wheel(wheel)
        python = use(wheel, folder)
        if sys.argv[1:]:
            keep(folder, python, ROOT / sys.argv[1])
        print(f"{wheel.name} works on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
