"""The child process of `run_program`: a script that restricts its own process permanently, then runs the program.

Started as `python -I -S -B child.py <CPU seconds> <bytes of memory> <process id of the parent>`. It uses the standard
library only. Standard input is a file: a secret of 16 bytes, then the program. The script writes to standard output:
`ready` once the sandbox is complete, else one sentence that says what is missing; then the secret if the program ran
to its end, else the name of its exception.

The kernel enforces two restrictions. Neither needs a privilege, and neither can be lifted:

- seccomp allows no system call that creates a process or a socket, reaches another process or changes a file. It lists
  what is allowed, so calls added by newer kernels are refused.
- Landlock allows reading the interpreter's library, which imports need, and no other file.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
import types
from collections.abc import Iterable, Iterator

# Numbers on x86_64 and aarch64 (None: no such call), from the kernel's unistd.h
ALLOWED: dict[str, tuple[int, int | None]] = {
    # open files, and looking up names
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "lseek": (8, 62),
    "close": (3, 57),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "stat": (4, None),
    "lstat": (6, None),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    # memory
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    # the process's own signals, locks, clocks and identity
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getrandom": (318, 278),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getrusage": (98, 165),
    "uname": (63, 160),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
OPENAT, FCNTL = (257, 56), (72, 25)  # allowed with some arguments only
FCNTL_COMMANDS = (0, 1, 2, 3, 1030)  # duplicate and query; F_SETOWN and F_SETSIG would signal other processes
AUDIT_ARCH = (0xC000003E, 0xC00000B7)
MACHINES = ("x86_64", "aarch64")

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2
KILL_PROCESS, RETURN_ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD, JUMP_IF_EQUAL, JUMP_IF_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06  # classic BPF
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ_FILE, READ_DIR = 1 << 2, 1 << 3
ALL_FILE_ACCESS = (1 << 13) - 1  # of Landlock's first version; the seccomp filter refuses what later versions add

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def check(result: int, missing: str) -> int:
    """Return the result of a libc call, or raise an `OSError` that says what is missing."""
    if result < 0:
        raise OSError(f"{missing} ({os.strerror(ctypes.get_errno())})")
    return result


def prctl(option: int, value: int, pointer: ctypes.Array[ctypes.c_char] | None = None) -> int:
    zero = ctypes.c_ulong(0)
    return int(libc.prctl(option, ctypes.c_ulong(value), pointer or zero, zero, zero))


def set_limits(seconds: int, memory: int) -> None:
    """Limit CPU time, memory, open files and more. The hard limits are set too, so that none can be raised."""
    for kind, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hardest = resource.getrlimit(kind)[1]
        value = value if hardest == resource.RLIM_INFINITY else min(value, hardest)
        resource.setrlimit(kind, (value, value))


def drop_privileges() -> None:
    """Drop all capabilities permanently, also for root."""
    check(prctl(PR_SET_NO_NEW_PRIVS, 1), "the kernel lacks PR_SET_NO_NEW_PRIVS")
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))  # version 3, this process
    check(libc.capset(header, ctypes.create_string_buffer(24)), "capabilities cannot be dropped")


def hide_files() -> None:
    """Landlock: allow reading only the standard library and the libraries it loads."""
    need = "Landlock is missing; it needs Linux 5.13 or later with `landlock` among the kernel's lsm= modules"
    handled = ctypes.c_uint64(ALL_FILE_ACCESS)
    rules = check(libc.syscall(LANDLOCK_CREATE, ctypes.byref(handled), ctypes.sizeof(handled), 0), need)
    own = {
        os.path.dirname(os.__file__),
        os.path.join(sys.base_prefix, "lib"),
        os.path.join(sys.base_exec_prefix, "lib"),
    }
    for path in own | {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", os.getcwd()}:
        if os.path.isdir(path):
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = ctypes.create_string_buffer(struct.pack("=Qi", READ_FILE | READ_DIR, folder))
            check(libc.syscall(LANDLOCK_ADD, rules, 1, rule, 0), need)
            os.close(folder)
    check(libc.syscall(LANDLOCK_RESTRICT, rules, 0), need)
    os.close(rules)


def filter_calls() -> None:
    """seccomp: allow the calls listed above and opening files for reading. Others fail as if unknown to the kernel."""
    name = os.uname().machine
    if name not in MACHINES:
        raise OSError(f"there is no list of system calls for {name} machines, only for {' and '.join(MACHINES)}")
    machine = MACHINES.index(name)
    numbers = [number for both in ALLOWED.values() if (number := both[machine]) is not None]
    steps = [  # operation, steps to skip if true, steps to skip if false, value
        (LOAD, 0, 0, 4),  # the architecture of the calling code
        (JUMP_IF_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL_PROCESS),  # the numbers mean other calls in 32-bit code
        (LOAD, 0, 0, 0),  # the call's number
        *allow(numbers),
        (JUMP_IF_EQUAL, 0, 4, OPENAT[machine]),
        (LOAD, 0, 0, 32),  # its third argument, the flags
        (JUMP_IF_ANY_BIT, 0, 1, os.O_ACCMODE | os.O_CREAT | os.O_TRUNC),
        (RETURN, 0, 0, RETURN_ERRNO | errno.EROFS),
        (RETURN, 0, 0, ALLOW),
        (JUMP_IF_EQUAL, 1, 0, FCNTL[machine]),
        (RETURN, 0, 0, RETURN_ERRNO | errno.ENOSYS),
        (LOAD, 0, 0, 24),  # its second argument, the command
        *allow(FCNTL_COMMANDS),
        (RETURN, 0, 0, RETURN_ERRNO | errno.EPERM),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    check(
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program), "the kernel or container does not allow seccomp filters"
    )


def allow(values: Iterable[int]) -> Iterator[tuple[int, int, int, int]]:
    for value in values:
        yield (JUMP_IF_EQUAL, 0, 1, value)
        yield (RETURN, 0, 0, ALLOW)


def main() -> None:
    seconds, memory, parent = map(int, sys.argv[1:])
    # The kernel kills this process when its parent ends; the parent may have ended before this call
    check(prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "the kernel lacks PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        os._exit(1)
    request = sys.stdin.buffer.read()
    secret, source = request[:16], request[16:]
    answer = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)
    os.environ.clear()
    program = types.ModuleType("program")  # not `__main__`, so that a program's demonstration does not run
    sys.modules["program"] = sys.modules["__main__"] = program  # pickle and dataclasses look classes up here
    sys.argv = ["program"]
    write, leave = os.write, os._exit  # the program can replace them
    try:
        set_limits(seconds, memory)
        drop_privileges()
        hide_files()
        filter_calls()
    except (OSError, ValueError) as error:
        write(answer, str(error).encode())
        leave(1)
    write(answer, b"ready\n")
    try:
        # A string, because a coding comment would apply to bytes; without this file's imports from __future__
        exec(compile(source.decode("utf-8-sig"), "program", "exec", dont_inherit=True), program.__dict__)
    except BaseException as error:  # also SystemExit: the program did not reach its end
        write(answer, type(error).__name__.encode())
        leave(1)
    write(answer, secret)
    leave(0)


if __name__ == "__main__":
    main()
