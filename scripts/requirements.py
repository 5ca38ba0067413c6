"""Print what Cerebro and some of its extras want, one a line, as settings.ini has it.

python scripts/requirements.py embedded panel
python scripts/requirements.py                   # what every extra wants
"""

import sys
from configparser import ConfigParser
from pathlib import Path


def requirements(*extras: str) -> list[str]:
    """Return the requirements of the package and of some of its extras, or of all of them, each once."""
    settings = ConfigParser(delimiters=["="])
    settings.read(Path(__file__).parent.parent / "settings.ini", encoding="utf-8")
    every = [key for key in settings["DEFAULT"] if key.endswith("_requirements")]
    keys = ["requirements", *([f"{extra}_requirements" for extra in extras] or every)]
    return list(dict.fromkeys(word for key in keys for word in settings["DEFAULT"][key].split()))


if __name__ == "__main__":
    print(*requirements(*sys.argv[1:]), sep="\n")
