"""Programs for the sandbox: attacks, cheats and harmless ones; and what the attacks aim at."""

import os
import shutil
import socket
from pathlib import Path

from hf_autojudge.tasks.sandbox import program

ATTACKS = {  # each is preceded by definitions of FOLDER, PORT, NAME and PACKAGE
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
WORK_OUTSIDE = [  # attacks that work outside the sandbox and harm only a scratch folder
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
    """What the attacks aim at, and whether it has changed."""

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
        for listener in (self.tcp, self.udp, self.unix):
            listener.setblocking(False)
        self.inheritable = os.dup(self.tcp.fileno())
        os.set_inheritable(self.inheritable, True)
        self.package = Path(shutil.copy(program.__file__, folder))
        self.before = self.files()

    def files(self) -> dict:
        return {
            str(path): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in self.folder.rglob("*")
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
        for listener in (self.tcp, self.udp, self.unix):
            listener.close()
        os.close(self.inheritable)
