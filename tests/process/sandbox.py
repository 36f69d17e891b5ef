"""Becomes a command under a seccomp profile, as a container runtime starts one.

    sandbox.py PROFILE COMMAND [ARGUMENT...]

Understands profiles that allow a list of system calls and answer all others with an errno. Exits
with 77 and a word where this machine has no seccomp, or no list of its system calls.
"""

import ctypes
import json
import os
import platform
import re
import struct
import sys

SKIPPED = 77
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2
NUMBER_AT, ARCHITECTURE_AT = 0, 4
MACHINES = {
    "x86_64": (
        0xC000003E,
        ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"],
    ),
    "aarch64": (0xC00000B7, ["/usr/include/asm-generic/unistd.h"]),
}


def skip(why):
    print("no seccomp here:", why, flush=True)
    sys.exit(SKIPPED)


def numbers(headers):
    """The number of each system call, by name."""
    for path in filter(os.path.exists, headers):
        with open(path, encoding="ascii") as header:
            found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read())
        return {name: int(number) for name, number in found}
    skip("no headers of the kernel")


def instructions(profile):
    """The profile as a program of the kernel's packet filter."""
    if platform.machine() not in MACHINES:
        skip(platform.machine())
    architecture, headers = MACHINES[platform.machine()]
    known = numbers(headers)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO", profile["defaultAction"]
    deny = (RETURN, 0, 0, ERRNO | profile["defaultErrnoRet"])
    yield (LOAD, 0, 0, ARCHITECTURE_AT)
    yield (EQUAL, 1, 0, architecture)
    yield deny
    yield (LOAD, 0, 0, NUMBER_AT)
    for group in profile["syscalls"]:
        assert group["action"] == "SCMP_ACT_ALLOW", group["action"]
        for name in group["names"]:
            if name in known:
                yield (EQUAL, 0, 1, known[name])
                yield (RETURN, 0, 0, ALLOW)
    yield deny


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        profile = json.load(file)
    program = b"".join(struct.pack("HBBI", *one) for one in instructions(profile))
    libc = ctypes.CDLL(None, use_errno=True)
    installed = Filter(len(program) // 8, program)
    if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        SET_SECCOMP, FILTER, ctypes.byref(installed), 0, 0
    ):
        skip(os.strerror(ctypes.get_errno()))
    os.execvp(sys.argv[2], sys.argv[2:])


main()
