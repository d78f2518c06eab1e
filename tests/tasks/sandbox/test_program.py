"""Generated programs do no harm and cannot forge a pass; correct ones pass.

Each attack would pass if it succeeded. Attacks that harm only a scratch folder are first run outside the sandbox, to
show that they do succeed there.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from hf_autojudge.tasks.sandbox import program
from hf_autojudge.tasks.sandbox.program import run_program
from tests.tasks.sandbox.attacks import ATTACKS, CHEATS, GOOD, WORK_OUTSIDE, World

FOLDER = Path(program.__file__).parent
CHILD = FOLDER / "child.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs are run on Linux only")


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "world")
    yield world
    world.close()


def left_over() -> list[str]:
    """Sandboxed processes whose parent is this process, or process 1 because theirs has ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if bytes(CHILD) in entry.joinpath("cmdline").read_bytes() and parent in (1, os.getpid()):
                found.append(entry.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("name", WORK_OUTSIDE)
def test_attack_succeeds_outside_the_sandbox(name, world):
    source = world.prelude() + ATTACKS[name]
    run = subprocess.run([sys.executable, "-c", source], stdout=subprocess.DEVNULL, timeout=20, close_fds=False)
    assert run.returncode == 0


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name, world, capfd):
    result = run_program(world.prelude() + ATTACKS[name], seconds=2, memory=2**28)
    assert not result.passed and result.reason
    assert not world.harm() and not left_over()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
""",
        "import time; time.sleep(1000)",
        "import threading; threading.Lock().acquire() and threading.Event().wait()",
        "x = 9**9**9",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ],
)
def test_endless(source):
    result = run_program(source, seconds=0.5)
    assert not result.passed and result.reason in ("time limit", "ended by SIGKILL")
    assert not left_over()


@pytest.mark.parametrize("name", CHEATS)
def test_cheat(name, capfd):
    assert not run_program(CHEATS[name] + "\nassert 1 == 2").passed
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", GOOD)
def test_good(name, capfd):
    result = run_program(GOOD[name])
    assert result.passed and not result.reason
    assert capfd.readouterr() == ("", "")


def test_reasons():
    assert run_program("assert False").reason == "AssertionError"
    assert run_program("def f(x: List[int]): pass").reason == "NameError"  # annotations are evaluated
    assert run_program("import numpy").reason == "ModuleNotFoundError"
    assert run_program("import ctypes; ctypes.string_at(0)").reason == "ended by SIGSEGV"
    assert run_program("bytearray(10**8)", memory=10**8).reason == "MemoryError"


def test_working_folder_is_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run_program(f"import os; assert os.getcwd().startswith({str(tmp_path)!r})").passed
    assert not list(tmp_path.iterdir())


def test_from_several_threads():
    results: dict[int, bool] = {}

    def run(i: int) -> None:
        results[i] = run_program(f"assert {i} % 2 == 0").passed

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: i % 2 == 0 for i in range(6)}


def test_under_lower_limits():
    code = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
sys.path.insert(0, {str(FOLDER)!r})
import program
assert program.run_program("").passed
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_ends_with_its_parent():
    code = (
        f"import sys; sys.path.insert(0, {str(FOLDER)!r})\nimport program; program.run_program('while True: pass', 60)"
    )
    parent = subprocess.Popen([sys.executable, "-I", "-S", "-c", code])
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 20
    while not (found := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.01)
    (child,) = found
    parent.kill()
    parent.wait()
    while running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running(child)


def running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("child.LANDLOCK_RESTRICT = 9444", "Landlock is missing"),
        ("child.PR_SET_SECCOMP = 9022", "seccomp"),
        ("child.MACHINES = ('sparc',)", "system calls"),
        ("this is not Python (", "did not start"),
    ],
)
def test_is_not_run_without_one_of_the_restrictions(change, message, monkeypatch, tmp_path):
    script = tmp_path / "child_with_a_change.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(FOLDER)!r})\nimport child\n{change}\nchild.main()\n")
    monkeypatch.setattr(program, "_CHILD", script)
    with pytest.raises(RuntimeError, match=f"not run.*{message}"):
        run_program(f"open({str(tmp_path / 'harm')!r}, 'x')")
    assert not (tmp_path / "harm").exists()


def test_is_not_run_elsewhere(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(RuntimeError, match="Linux only, not on darwin"):
        run_program("")


@pytest.mark.slow
def test_as_an_ordinary_user():
    """The same attacks by a user without privileges, who owns the files."""
    if os.getuid() != 0:
        pytest.skip("the other tests ran as an ordinary user already")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # readable by every user, unlike pytest's own folders
        for file in (program.__file__, CHILD):
            shutil.copy(file, folder)
        scratch = Path(folder, "world")
        own = World(scratch)
        try:
            for path in (scratch, *scratch.rglob("*")):
                os.chown(path, 65534, 65534)
            own.before = own.files()
            programs = {name: own.prelude() + source for name, source in ATTACKS.items()}
            script = (
                f"import json, sys; sys.path.insert(0, {folder!r}); import program\n"
                "passed = {n: program.run_program(s, 2, 2**28).passed for n, s in json.load(sys.stdin).items()}\n"
                "print(json.dumps(passed))"
            )
            for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
                user = {"user": 65534, "group": 65534, "extra_groups": []}
                try:
                    run = subprocess.run(
                        [python, "-I", "-c", script],
                        input=json.dumps(programs | GOOD),
                        capture_output=True,
                        text=True,
                        cwd="/",
                        check=True,
                        **user,
                    )
                    break
                except (PermissionError, FileNotFoundError):
                    continue
            else:
                pytest.skip("no Python interpreter that other users can run")
            assert json.loads(run.stdout) == {name: name in GOOD for name in programs | GOOD}
            assert not own.harm()
        finally:
            own.close()
