"""Many items: what is held does not grow with them."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.costly

MANY = """
import sys
from cerebro_nb import Ledger, load_settings, process_in_batches

ledger, count = Ledger(sys.argv[1]), int(sys.argv[2])
held = []

async def echo(value):
    return value

def megabytes():
    # Not ru_maxrss: a child begins with its parent's.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024

def watch(now):
    if now.processed >= count // 4 and not held:
        held.append(megabytes())

profile = load_settings({}).profile("auto").replace(concurrency=16)
run = process_in_batches(
    (n for n in range(count)), echo, profile, ledger=ledger, show_progress=False, on_progress=watch
)
late = megabytes()
assert run.page(first=count - 2)["output"].tolist() == [count - 2, count - 1]
print(run.progress.ok, *held, late)
ledger.close()
"""


def test_a_generator_of_many_items_is_run_through_a_window(ledger_url):
    """A quarter of the items needs as much memory as all of them; a list of results would need more."""
    count = 40_000
    done = subprocess.run(
        [sys.executable, "-c", MANY, ledger_url, str(count)], capture_output=True, text=True, check=True, timeout=300
    )
    ok, early, late = map(int, done.stdout.split())
    assert ok == count
    assert late <= 300 and late - early <= 10
    print(f"{early} MB after a quarter, {late} MB at the end")
