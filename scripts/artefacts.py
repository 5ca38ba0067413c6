"""Build the sdist, the wheel from the sdist, and use that wheel as a user does: installed in an empty environment."""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parent.parent
NEEDED = {
    "cerebro_nb/__init__.py",
    "cerebro_nb/py.typed",
    "cerebro_nb/locale/pt_BR/LC_MESSAGES/cerebro.mo",
    *(str(path.relative_to(ROOT)) for path in (ROOT / "cerebro_nb" / "panels" / "static").rglob("*") if path.is_file()),
}


def run(*words: str | Path, cwd: Path) -> str:
    """Run a command, show it and what it says, and return that; it must end well."""
    print("+", *words, flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CEREBRO_", "PYTHON"))}
    environment |= {"CEREBRO_DATA_DIR": str(cwd / "data"), "XDG_DATA_HOME": str(cwd / "share")}
    ended = subprocess.run(words, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    print(ended.stdout, flush=True)
    ended.check_returncode()
    return ended.stdout


def built(folder: Path) -> Path:
    """Build the artefacts, the wheel from the sdist, and return the wheel."""
    run(sys.executable, "-m", "build", "--installer", "pip", "--outdir", folder, ROOT, cwd=folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
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


def use(wheel: Path, folder: Path) -> None:
    """Install a wheel in an empty environment and do the main job with it."""
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python, cerebro = folder / "venv" / "bin" / "python", folder / "venv" / "bin" / "cerebro"
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(*pip, "install", "--quiet", "--only-binary", ":all:", *constraints, f"{wheel}[embedded]", cwd=folder)
    run(*pip, "check", cwd=folder)
    assert run(cerebro, "--version", cwd=folder).strip() == f"cerebro {wheel.name.split('-')[1]}"
    place = run(cerebro, "pull", "smollm2", cwd=folder)
    assert str(folder) in place and run(cerebro, "pull", "smollm2", cwd=folder) == place
    assert "Saved 6 examples" in run(cerebro, "demo", cwd=folder)
    assert "/venv/" in run(python, "-c", "import cerebro_nb; print(cerebro_nb.__file__)", cwd=folder)


def main() -> None:
    """Build, look, use."""
    with tempfile.TemporaryDirectory(prefix="cerebro-artefacts-") as name:
        folder = Path(name).resolve()
        wheel = built(folder)
        check_wheel(wheel)
        use(wheel, folder)
        print(f"{wheel.name} works on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
