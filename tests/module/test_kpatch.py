# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources of patch modules, compared whole with the files in golden/.

A change of the template that is meant: run with KBUILD_PY_GOLDEN=write, and read the difference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from kbuild_py.manifest.model import HookKind
from kbuild_py.module.dynrela import Dynrela
from kbuild_py.module.hooks import BoundHook
from kbuild_py.module.kpatch import Code, Part, PatchedFunction, PatchedObject, module_sources
from kbuild_py.symbols import OF_PATCH_C, Reference, late_reference

GOLDEN = Path(__file__).parent / "golden"
TEXT = 0xFFFFFFFF81000000


def code(size: int, *spans: tuple[int, int]) -> Code:
    """Some bytes."""
    return Code(bytes(number * 7 % 256 for number in range(size)), spans)


PLAIN = PatchedFunction("show", 1, TEXT + 0x10, 32, code(32, (0, 5)), (), "show", False)
ALL = (
    PLAIN,
    PatchedFunction(
        "work.isra.0",
        2,
        TEXT + 0x1000,
        40,
        code(40, (0, 5), (6, 4), (12, 1), (16, 4), (24, 4), (30, 2), (33, 7)),
        (
            Part("work.isra.0.cold", 1, TEXT + 0x900000, 17, code(17, (1, 4))),
            Part("work.isra.0.cold.1", 3, TEXT + 0x900100, 5, code(5)),
        ),
        "work.isra.0.fs_b",
        True,
    ),
    PatchedFunction(
        "rest",
        3,
        TEXT + 0x3000,
        7,
        code(7, (0, 5)),
        (Part("rest.cold", 2, TEXT + 0x900200, 9, code(9)),),
        "rest",
        False,
    ),
)
REFERENCES = (
    Reference("after", 1, TEXT + 0x5000, "FSE_readNCount", 0x4000),
    Reference("before", 4, TEXT + 0x800, "FSE_readNCount", -0x800),
    Reference("per_cpu", 1, 0x1040, "__preempt_count", 0x40),
    Reference("same", 1, TEXT + 0x1000, "FSE_readNCount", 0),
    Reference("unlisted", 0, TEXT + 0x7000, "a_third_anchor", 0x40),
)
HOOKS = tuple(
    BoundHook("vmlinux", kind, "manifests/x/hooks.c", f"do_{kind.value}", False) for kind in HookKind
)
MARKED = (
    BoundHook("vmlinux", HookKind.PRE_PATCH, "fs/a.c", "prepare.fs_a_c", True),
    BoundHook("vmlinux", HookKind.LOAD, "fs/a.c", "at_once", False),
    BoundHook("vmlinux", HookKind.POST_UNPATCH, "fs/a.c", "restore", True),
)
LATE = late_reference("loop", "max_part", 2)
DYNRELAS = (
    Dynrela("kpatch_place_1_1", "R_X86_64_PC32", LATE, -4),
    Dynrela("kpatch_place_1_2", "R_X86_64_64", late_reference("jbd2", "jbd2_journal_start", 0), 0),
)
IN_LOOP = PatchedFunction("partscan", 1, 0, 16, code(16, (4, 4)), (), "partscan", False)


def image(
    functions: Sequence[PatchedFunction], references: Sequence[Reference], hooks: Sequence[BoundHook]
) -> PatchedObject:
    return PatchedObject("vmlinux", tuple(functions), tuple(references), hooks=tuple(hooks))


CASES: dict[str, tuple[PatchedObject, ...]] = {
    "one-function": (image((PLAIN,), (), ()),),
    "all": (image(ALL, REFERENCES, ()),),
    # kallsyms does not list it, so the core cannot compare it.
    "only-unlisted": (image((PLAIN,), REFERENCES[-1:], ()),),
    "hooks": (image((PLAIN,), REFERENCES[:1], HOOKS),),
    "only-hooks": (image((), (), HOOKS[2:4]),),
    "marked-hooks": (image((PLAIN,), (), MARKED),),
    "module": (PatchedObject("loop", (IN_LOOP,), (), DYNRELAS),),
    "image-and-modules": (
        image((PLAIN,), REFERENCES[:1], HOOKS[:1]),
        PatchedObject("loop", (IN_LOOP,), (), DYNRELAS[:1], HOOKS[2:3]),
        PatchedObject("virtio_net", (), (), (), MARKED[:1]),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    objects = CASES[case]
    texts = module_sources(
        name=case,
        description='Says "*/" and \\',
        release="6.1.0-50-amd64",
        version="6.1.176-1",
        build_id="06f8bde30046985060c60820f7a11515a33afb06",
        objects=objects,
        files=["1_fs_a.o", "2_fs_b.o"],
    )
    assert set(texts) == {"patch.c", "Kbuild"}
    path = GOLDEN / f"{case}.c"
    if os.environ.get("KBUILD_PY_GOLDEN") == "write":
        path.write_text(texts["patch.c"])
    assert texts["patch.c"] == path.read_text()
    assert "\n\n\n" not in texts["patch.c"]


@pytest.mark.parametrize("case", CASES)
def test_names_that_patch_c_gives_are_known(case: str) -> None:
    """Functions with one of these names get another (symbols.py), or the assembler would mix them up."""
    text = (GOLDEN / f"{case}.c").read_text()
    names = re.findall(r"^static [^=;()\[]*?(\w+)(?:\(|\[|;| =)", text, re.MULTILINE)
    assert len(names) >= 5
    assert [name for name in names if not OF_PATCH_C.fullmatch(name)] == []


def test_the_same_input_gives_the_same_text_in_any_order_of_references() -> None:
    def text(references: tuple[Reference, ...]) -> str:
        facts = {"name": "x", "description": "d", "release": "r", "version": "v", "build_id": "00"}
        return module_sources(**facts, objects=(image(ALL, references, ()),), files=["a.o"])["patch.c"]

    anchors = [line for line in text(REFERENCES).splitlines() if line.startswith("extern const")]
    assert anchors == [
        line for line in text(REFERENCES[::-1]).splitlines() if line.startswith("extern const")
    ]
