# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries of .printk_index go with the function that they name."""

from __future__ import annotations

from pathlib import Path

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta
from kbuild_py.elf.write import write_object
from tests.delta.checker import check
from tests.delta.compiling import compile_c, needs_gcc

pytestmark = needs_gcc

TEXT = r"""
struct pi_entry { const char *fmt, *func, *file; unsigned int line; const char *level, *prefix; };
int _printk(const char *format, ...);
#define printk(text, ...) ({							\
	if (__builtin_constant_p(text)) {					\
		static const struct pi_entry _entry __attribute__((used)) =	\
			{ text, __func__, __FILE__, __LINE__, "6", 0 };		\
		static const struct pi_entry *_entry_ptr			\
			__attribute__((used, section(".printk_index"))) = &_entry;	\
	}									\
	_printk(text, ##__VA_ARGS__); })

void f(int x) { printk("one %d\n", x + 1); printk("two\n"); }
void g(int x) { printk("three %d\n", x); }
""".replace("\t", " ")


def test_entries_of_shipped_functions(tmp_path: Path) -> None:
    objects = []
    for name, text in (("before", TEXT), ("after", TEXT.replace("x + 1", "x + 2"))):
        source = tmp_path / f"{name}.c"
        source.write_text(text)
        objects.append(compile_c(source, tmp_path / name / "unit.o"))
    result = diff(*objects)
    assert isinstance(result, Delta) and result.object is not None, result
    assert [function.name for function in result.functions] == ["f"]
    index = next(section for section in result.object.sections if section.name == ".printk_index")
    assert index.size == 16 and len(index.relocations) == 2
    content = b"".join(section.data for section in result.object.sections)
    assert b"one %d\n\0" in content and b"two\n\0" in content and b"three" not in content
    output = tmp_path / "output.o"
    output.write_bytes(write_object(result.object))
    check(tmp_path / "after" / "unit.o", output, result.to_json())


def test_a_line_that_moves_is_no_change(tmp_path: Path) -> None:
    objects = []
    for name, text in (("before", TEXT), ("after", TEXT.replace("void f", "\n\nvoid f"))):
        source = tmp_path / f"{name}.c"
        source.write_text(text)
        objects.append(compile_c(source, tmp_path / name / "unit.o"))
    result = diff(*objects)
    assert isinstance(result, Delta) and not result.changed
