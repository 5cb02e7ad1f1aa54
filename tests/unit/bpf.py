"""
A small machine for the classic BPF that seccomp filters are made of. Runs nothing in the kernel.

Knows the instructions that libseccomp and `jail.seccomp` emit, and refuses any other. What the kernel
checks before it loads a filter is checked here too.

Source: linux/bpf_common.h, linux/filter.h, linux/seccomp.h; seccomp_check_filter() and
seccomp_is_const_allow() of kernel/seccomp.c; networking/filter.rst of the kernel's documentation.
"""

import errno
import struct

AUDIT_ARCH = {"aarch64": 0xC00000B7, "x86_64": 0xC000003E, "arm": 0x40000028, "i386": 0x40000003}

ALLOW = "allow"
EPERM = "EPERM"
ENOSYS = "ENOSYS"
KILL_PROCESS = "kill process"
NOTIFY = "ask the supervisor"

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS of linux/bpf_common.h

_INSTRUCTION = struct.Struct("<HBBI")
_DATA = struct.Struct("<iIQ6Q")  # struct seccomp_data: nr, arch, instruction_pointer, args
_FIRST_ARGUMENT = 16

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP = 0x05
_BRANCHES = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: bool(a & k),
}
_WORDS = {0x7FFF0000: ALLOW, 0x7FC00000: NOTIFY, 0x80000000: KILL_PROCESS}
_WORDS |= {0x00050000 | code: errno.errorcode[code] for code in (errno.EPERM, errno.ENOSYS)}


class BadProgramError(Exception):
    """
    The kernel would not take this program, or this machine does not know it.
    """


class ArgumentReadError(Exception):
    """
    The verdict is not a matter of the number alone: the kernel cannot remember it.
    """


def parse(code):
    """
    The instructions of a filter, each ``(code, jt, jf, k)``, after the kernel's own checks.
    """
    if not code or len(code) % _INSTRUCTION.size or len(code) > MAX_INSTRUCTIONS * _INSTRUCTION.size:
        raise BadProgramError(len(code))
    program = list(_INSTRUCTION.iter_unpack(code))
    for place, (operation, true, false, constant) in enumerate(program):
        jumps = [constant] if operation == _JUMP else [true, false] if operation in _BRANCHES else []
        if any(place + 1 + jump >= len(program) for jump in jumps):
            raise BadProgramError(place)
        if operation == _LOAD and (constant % 4 or constant >= _DATA.size):
            raise BadProgramError(place)
        if operation not in {_LOAD, _AND, _RETURN, _JUMP, *_BRANCHES}:
            raise BadProgramError(place)
    if program[-1][0] != _RETURN:
        raise BadProgramError(len(program))
    return program


def judge(program, arch, number, args=()):
    """
    The verdict on one system call. As `run`.
    """
    return run(program, arch, number, args)[0]


def run(program, arch, number, args=()):
    """
    The verdict on one system call, and after how many instructions.

    Args:
        program: what `parse` gave.
        arch: a name in `AUDIT_ARCH`, or an AUDIT_ARCH itself.
        number: the system call, as the kernel has it: an int of 32 bits, or its unsigned spelling.
        args: up to six, each taken modulo 2**64; None when they are not to be read.

    Raises:
        ArgumentReadError: `args` is None, and the verdict hangs on one.
    """
    number = (number + 2**31) % 2**32 - 2**31
    words = [arg % 2**64 for arg in args or ()]
    data = _DATA.pack(number, AUDIT_ARCH.get(arch, arch), 0, *words, *[0] * (6 - len(words)))
    accumulator = place = steps = 0
    while True:
        operation, true, false, constant = program[place]
        place += 1
        steps += 1
        if operation == _RETURN:
            return _WORDS[constant], steps
        if operation == _JUMP:
            place += constant
        elif operation == _LOAD:
            if args is None and constant >= _FIRST_ARGUMENT:
                raise ArgumentReadError(number)
            accumulator = int.from_bytes(data[constant : constant + 4], "little")
        elif operation == _AND:
            accumulator &= constant
        else:
            place += true if _BRANCHES[operation](accumulator, constant) else false
