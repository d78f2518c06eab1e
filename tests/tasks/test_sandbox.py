"""Generated programs do no harm and cannot feign a pass; good ones pass.

Each attack is written so that it would pass if it worked. Those that harm nothing but a scratch folder are first run
uncontained, to show that they do work.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from hf_autojudge.tasks import sandbox
from hf_autojudge.tasks.sandbox.program import run_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs are run on Linux only")

ATTACKS = {  # FOLDER, PORT, NAME and PACKAGE are defined before each
    "delete": "import os; os.remove(FOLDER + '/open.txt')",
    "delete all": "import shutil; shutil.rmtree(FOLDER + '/full')",
    "overwrite": "open(FOLDER + '/open.txt', 'w').write('harm')",
    "append": "open(FOLDER + '/open.txt', 'a').write('harm')",
    "truncate": "import os; os.truncate(FOLDER + '/open.txt', 0)",
    "truncate when opened to read": "import os; os.open(FOLDER + '/open.txt', os.O_RDONLY | os.O_TRUNC)",
    "make a file": "open(FOLDER + '/new', 'x')",
    "make a file in its own folder": "open('new', 'x')",
    "make a folder": "import os; os.mkdir(FOLDER + '/new')",
    "make a link": "import os; os.symlink('/', FOLDER + '/new')",
    "rename": "import os; os.rename(FOLDER + '/open.txt', FOLDER + '/new')",
    "change rights": "import os; os.chmod(FOLDER + '/private.txt', 0o777)",
    "change times": "import os; os.utime(FOLDER + '/open.txt', (0, 0))",
    "read a private file": "assert open(FOLDER + '/private.txt').read()",
    "read a public file": "assert open('/etc/passwd').read()",
    "list a folder": "import os; assert os.listdir(FOLDER)",
    "read the parent's environment": "import os; assert open(f'/proc/{os.getppid()}/environ').read()",
    "read the environment": "import os; assert os.environ or open('/proc/self/environ').read()",
    "read the environment through libc": (
        "import ctypes; libc = ctypes.CDLL(None); libc.getenv.restype = ctypes.c_char_p; assert libc.getenv(b'PATH')"
    ),
    "read the parent's memory": "import os; open(f'/proc/{os.getppid()}/mem', 'rb')",
    "write to the parent's output": "import os; open(f'/proc/{os.getppid()}/fd/1', 'w').write('harm')",
    "read the parent's folder": "import os; assert os.listdir(f'/proc/{os.getppid()}/cwd/')",
    "connect": "import socket; socket.create_connection(('127.0.0.1', PORT), 1).send(b'harm')",
    "send a datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'harm', ('127.0.0.1', PORT))",
    "connect to an abstract socket": "import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + NAME)",
    "listen": "import socket; socket.create_server(('127.0.0.1', 0))",
    "socket pair": "import socket; socket.socketpair()",
    "fork": "import os; pid = os.fork() or os._exit(0); os.waitpid(pid, 0)",
    "vfork and run": "import subprocess; subprocess.run(['/bin/true'], check=True)",
    "spawn": "import os; os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
    "become another program": "import os; os.execv('/bin/true', ['true'])",
    "daemon": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1)
        open(FOLDER + '/new', 'x')
    os._exit(0)
""",
    "fork bomb": """
import os
while True:
    try:
        os.fork()
    except OSError as error:
        raise SystemExit from error
""",
    "thread": "import threading; t = threading.Thread(target=print); t.start(); t.join()",
    "kill the parent": "import os; os.kill(os.getppid(), 9)",
    "kill all": "import os; os.kill(-1, 9)",
    "kill its group": "import os; os.killpg(0, 9)",
    "signal through a file's owner": """
import fcntl, os
fcntl.fcntl(3, 10, 9)  # F_SETSIG: SIGKILL
fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())
fcntl.fcntl(3, fcntl.F_SETFL, fcntl.fcntl(3, fcntl.F_GETFL) | os.O_ASYNC)
os.write(3, b'harm')
""",
    "trace the parent": "import ctypes, os; assert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0",
    "raise its limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "become root": "import os; os.setuid(0)",
    "own namespaces": "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "mount": "import ctypes; assert ctypes.CDLL(None).mount(b'/', FOLDER.encode(), None, 4096, None) == 0",
    "32-bit system calls": """
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, getpid; int 0x80; ret
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
""",
    "terminal": "open('/dev/tty', 'w').write('harm')",
    "device": "open('/dev/urandom', 'rb').read(1)",
    "huge file": "open(FOLDER + '/new', 'wb').write(bytes(2**28))",
    "shared memory": "open('/dev/shm/harm', 'xb').write(bytes(2**20))",
    "inherited files": """
import os
for fd in range(4, 64):
    try:
        os.fstat(fd)
        break
    except OSError:
        pass
else:
    raise AssertionError
""",
    "many files": "import os; [os.open('.', os.O_RDONLY) for _ in range(1000)]",
    "the package's files": "import os; os.remove(PACKAGE)",
    "the package's files in writing": "open(PACKAGE, 'r+')",
    "10 GB": "x = bytearray(10**10)",
    "10 GB in pieces": "x = [bytearray(10**7) for _ in range(1000)]",
    "many bytes for the parent": "import os\nwhile True: os.write(3, b'harm' * 1000)",
    "stack overflow": "import ctypes; ctypes.string_at(0)",
    "recursion": "import sys; sys.setrecursionlimit(10**9)\ndef f(x): return f([x])\nf(0)",
    "deep nesting": "eval('(' * 10**6)",
}
UNHARMFUL = [  # these work where nothing contains them
    *(
        "delete",
        "overwrite",
        "truncate",
        "make a file",
        "rename",
        "change rights",
        "change times",
        "read a private file",
    ),
    *("list a folder", "read the parent's environment", "read the environment", "connect", "send a datagram", "fork"),
    *("connect to an abstract socket", "vfork and run", "thread", "inherited files"),
]
CHEATS = {
    "exit status": "import os; os._exit(0)",
    "exit": "import sys; sys.exit(0)",
    "raised exit": "raise SystemExit",
    "printed": "print('ready'); print('passed', flush=True); import os; os._exit(0)",
    "written where the answer goes": "import os; os.write(3, b'ready\\npassed'); os._exit(0)",
    "closed files": "import os; os.closerange(0, 64)",
    "replaced builtins": "import builtins, os; builtins.AssertionError = builtins.print; os.write = os._exit = print",
    "hook": "import sys; sys.excepthook = sys.unraisablehook = lambda *_: None",
    "exit at exit": "import atexit, os; atexit.register(os._exit, 0)",
    "tracer": "import sys; sys.settrace(lambda *_: sys.exit(0))\ndef f(): pass\nf()",
    "swallowed": "try:\n raise SystemExit\nfinally:\n import os; os._exit(0)",
    "not Python": "I cannot help with that.",
    "no text": "\0",
    "not Unicode": "x = '\ud800'",
}
GOOD = {
    "empty": "",
    "library": """
import asyncio, bisect, cmath, collections, copy, ctypes, dataclasses, datetime, decimal, enum, fractions, functools
import hashlib, heapq, itertools, json, math, multiprocessing, operator, platform, random, re, socket, sqlite3
import statistics, string, subprocess, tempfile, threading, time, typing, unittest, uuid, zlib
assert math.isqrt(17) == 4 and datetime.date.today().year > 2000 and 0 <= random.random() < 1
assert platform.machine() and threading.Lock().acquire()
print("é" * 100000)
time.sleep(0.01)
""",
    "class": """
from __future__ import annotations
from dataclasses import dataclass
import pickle
@dataclass
class A:
    x: int
assert pickle.loads(pickle.dumps(A(3))) == A(3)
""",
    "demonstration": """
def f():
    return 1
if __name__ == "__main__":
    raise SystemExit(f(input()))
assert f() == 1
""",
    "caught errors": """
import os
try:
    open("x.txt")
except FileNotFoundError:
    assert os.listdir() == []
""",
    "another coding's name": "# -*- coding: latin-1 -*-\nassert len('é') == 1",
    "byte order mark": "\ufeffx = 1",
    "no input": "import sys; assert sys.stdin.read() == '' and sys.argv == ['program']",
}


class World:
    """What attacks aim at, and whether it is still as it was."""

    def __init__(self, folder: Path):
        self.folder, self.name = folder, str(folder)
        (folder / "full" / "inner").mkdir(parents=True)
        (folder / "open.txt").write_text("open")
        (folder / "private.txt").write_text("private")
        folder.chmod(0o777)
        (folder / "open.txt").chmod(0o666)
        (folder / "private.txt").chmod(0o600)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(type=socket.SOCK_DGRAM)
        self.udp.bind(self.tcp.getsockname())
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind("\0" + self.name)
        self.unix.listen()
        for one in (self.tcp, self.udp, self.unix):
            one.setblocking(False)
        self.inheritable = os.dup(self.tcp.fileno())
        os.set_inheritable(self.inheritable, True)
        self.package = Path(shutil.copy(sandbox.__file__, folder))
        self.before = self.files()

    def files(self) -> dict:
        return {
            str(p): (p.stat().st_mode, p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"")
            for p in self.folder.rglob("*")
        }

    def prelude(self) -> str:
        return (
            f"FOLDER, PORT = {str(self.folder)!r}, {self.tcp.getsockname()[1]}\n"
            f"NAME, PACKAGE = {self.name!r}, {str(self.package)!r}\n"
        )

    def harm(self) -> list[str]:
        found = [] if self.files() == self.before else ["files changed"]
        for name, receive in (("tcp", self.tcp.accept), ("udp", lambda: self.udp.recv(9)), ("unix", self.unix.accept)):
            try:
                receive()
                found.append(name)
            except BlockingIOError:
                pass
        return found

    def close(self) -> None:
        for one in (self.tcp, self.udp, self.unix):
            one.close()
        os.close(self.inheritable)


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "world")
    yield made
    made.close()


def left_over() -> list[str]:
    """Processes of sandboxes of this one, and what any sandbox left behind: children given to process 1."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if b"sandbox_child.py" in entry.joinpath("cmdline").read_bytes() and parent in (1, os.getpid()):
                found.append(entry.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("name", UNHARMFUL)
def test_these_attacks_work_uncontained(name, world):
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
    began = time.monotonic()
    result = run_program(source, seconds=0.5)
    assert not result.passed and result.reason in ("time limit", "ended by SIGKILL")
    assert time.monotonic() - began < 4 and not left_over()


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
    assert run_program("def f(x: List[int]): pass").reason == "NameError"  # annotations are computed
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
sys.path.insert(0, {str(Path(sandbox.__file__).parent)!r})
import sandbox
assert sandbox.run_program("").passed
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_ends_with_its_parent(tmp_path):
    path = Path(sandbox.__file__).parent
    code = (
        f"import sys; sys.path.insert(0, {str(path)!r}); import sandbox; sandbox.run_program('while True: pass', 60)"
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
    ("there", "missing", "message"),
    [
        ("LANDLOCK_RESTRICT = 444", "LANDLOCK_RESTRICT = 9444", "Landlock is missing"),
        ("PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22", "PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 9022", "seccomp"),
        ('MACHINES = ("x86_64", "aarch64")', 'MACHINES = ("sparc",)', "system calls"),
        ("def main()", "def main(", "did not start"),
    ],
)
def test_is_not_run_where_a_lock_is_missing(there, missing, message, monkeypatch, tmp_path):
    source = Path(sandbox.__file__).with_name("sandbox_child.py").read_text()
    assert there in source
    child = tmp_path / "sandbox_child.py"
    child.write_text(source.replace(there, missing))
    monkeypatch.setattr(sandbox, "_CHILD", child)
    with pytest.raises(RuntimeError, match=f"not run.*{message}"):
        run_program(f"open({str(tmp_path / 'harm')!r}, 'x')")
    assert not (tmp_path / "harm").exists()


def test_is_not_run_elsewhere(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(RuntimeError, match="Linux only, not on darwin"):
        run_program("")


def test_as_an_ordinary_user():
    """The same attacks by a user without privileges, whose interpreter and files these are."""
    if os.getuid() != 0:
        pytest.skip("the other tests ran as an ordinary user already")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # where every user can read
        for file in ("sandbox.py", "sandbox_child.py"):
            shutil.copy(Path(sandbox.__file__).with_name(file), folder)
        # The folders above may be closed to other users
        scratch = Path(folder, "world")
        own = World(scratch)
        try:
            for path in (scratch, *scratch.rglob("*")):
                os.chown(path, 65534, 65534)
            own.before = own.files()
            programs = {name: own.prelude() + source for name, source in ATTACKS.items()}
            script = (
                f"import json, sys; sys.path.insert(0, {folder!r}); import sandbox\n"
                "passed = {n: sandbox.run_program(s, 2, 2**28).passed for n, s in json.load(sys.stdin).items()}\n"
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
