# SPDX-License-Identifier: GPL-2.0-or-later
"""The printed `functions:` list, pasted into a manifest, is read as what was meant."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from kbuild_py.manifest.draft import functions_list, source_name
from kbuild_py.manifest.fields import C_KEYWORDS
from kbuild_py.manifest.load import load_manifest
from kbuild_py.manifest.model import Function
from tests.manifest.project import MANIFEST, make_project


def pasted(text: str, path: Path) -> dict[tuple[str, str | None], bool]:
    path.write_text(MANIFEST.replace("    functions: [meminfo_proc_show]\n", text))
    (vmlinux,) = load_manifest(path).objects
    assert vmlinux.functions is not None
    return {(function.name, function.source): function.force_unsafe for function in vmlinux.functions}


def test_clones_count_to_their_function() -> None:
    names = ["f", "f.isra.0", "f.constprop.0.isra.0", "f.part.0", "f.cold"]
    assert {source_name(name) for name in names} == {"f"}
    assert functions_list([(name, "fs/f.c") for name in names]) == "    functions:\n      - f\n"


def test_what_was_declared_is_kept_and_namesakes_get_their_source() -> None:
    declared = [
        Function("b", None, True, ""),
        Function("c", "fs/c.c", False, ""),
        Function("gone", None, True, ""),
        Function("a", "fs/other.c", True, ""),
    ]
    changed = [("c", "fs/c.c"), ("b.cold", "fs/b.c"), ("a", "fs/a.c"), ("d", "fs/2.c"), ("d", "fs/1.c")]
    assert functions_list(changed, declared, indent=0) == (
        "functions:\n"
        "  - a\n"
        "  - {name: b, force_unsafe: true}\n"
        "  - {name: c, source: fs/c.c}\n"
        "  - {name: d, source: fs/1.c}\n"
        "  - {name: d, source: fs/2.c}\n"
    )


def test_no_function_is_an_empty_list() -> None:
    """`functions:` with nothing behind it would be no value; hooks alone are a manifest."""
    assert functions_list([]) == "    functions: []\n"


def test_names_that_yaml_does_not_read_as_text(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    names = ["no", "y", "ON", "null", "True", "_1", "e1", "NaN", "x_y"]
    text = functions_list([(name, "a.c") for name in names])
    assert '- "no"\n' in text and "- x_y\n" in text
    assert set(pasted(text, path)) == {(name, None) for name in names}


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True).filter(
    lambda name: name not in C_KEYWORDS
)
SOURCES = st.sampled_from(
    ["a.c", "fs/b.c", "net/ipv4/tcp.c", "sound/soc/x-y.c", "a/no.c", "1/2.c", "a b/c#d.c"]
)


@settings(deadline=None)
@given(st.sets(st.tuples(NAMES, SOURCES), min_size=1, max_size=6), st.data())
def test_pasted_list_names_exactly_the_changed_functions(
    changed: set[tuple[str, str]], data: st.DataObject
) -> None:
    unsafe = data.draw(st.sets(st.sampled_from(sorted(changed)), max_size=2))
    declared = [Function(name, source, True, "") for name, source in unsafe]
    with tempfile.TemporaryDirectory() as folder:
        read = pasted(functions_list(changed, declared), make_project(Path(folder)))
    for name, source in changed:
        key = (name, source) if (name, source) in read else (name, None)
        assert read[key] == ((name, source) in unsafe)
    assert len(read) == len(changed)
