# SPDX-License-Identifier: GPL-2.0-or-later
"""Names as compilers make them."""

from __future__ import annotations

import pytest

from kbuild_py.delta import names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f.isra.0", "f.isra.12"),
        ("f.constprop.0.isra.1", "f.constprop.4.isra.0"),
        ("f.part.3", "f.part.0"),
        ("f.cold", "f.cold.7"),
        ("f.lto_priv.1", "f.lto_priv.0"),
        ("count.17", "count.4"),
        ("__UNIQUE_ID_author240", "__UNIQUE_ID_author7"),
        ("__initcall__kmod_proc__300_166_init5", "__initcall__kmod_proc__1_170_init5"),
        ("__BTF_ID__func__f__12", "__BTF_ID__func__f__3"),
        ("__initstub__kmod_proc__300_166_init", "__initstub__kmod_proc__1_170_init"),
        ("__UNIQUE_ID_addressable_f_240", "__UNIQUE_ID_addressable_f_7"),
        ("__addressable_f17", "__addressable_f4"),
        ("f.__UNIQUE_ID___addressable_g22", "f.__UNIQUE_ID___addressable_g1"),
        ("f.count", "f.count.3"),
        ("count.1.lto_priv.0", "count.2"),
        ("f.llvm.123", "f.llvm.7"),
        ("__func__.12", "__func__.0"),
    ],
)
def test_numbers_are_taken_off(one: str, other: str) -> None:
    assert names.canonical(one) == names.canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f", "g"),
        ("f", "f.isra.0"),
        ("f.isra.0", "f.part.0"),
        ("count.1", "counter.1"),
        ("f1", "f2"),
        ("count", "count.1"),
        ("f.count", "g.count"),
        ("__UNIQUE_ID_addressable_f1_240", "__UNIQUE_ID_addressable_f2_240"),
        ("__initcall__kmod_a__1_2_f5", "__initcall__kmod_b__1_2_f5"),
        ("__pi_f", "f"),
    ],
)
def test_different_things_stay_different(one: str, other: str) -> None:
    assert names.canonical(one) != names.canonical(other)


@pytest.mark.parametrize(
    ("name", "base"),
    [("count.17", "count"), ("f.count", "count"), ("f.count.3", "count"), ("count.1.lto_priv.0", "count")],
)
def test_the_variable_of_a_static_local(name: str, base: str) -> None:
    assert names.is_static_local(name)
    assert names.static_local_base(name) == base


def test_what_every_copy_has_of_its_own() -> None:
    assert all(names.per_copy(f"{name}.5") for name in names.PER_COPY)
    assert names.per_copy("f.__warned") and names.per_copy("__UNIQUE_ID_ddebug123.4")
    # Work that must not be done twice, and file-wide variables of the same names.
    assert not any(names.per_copy(name) for name in ("___done.3", "___once_key.2", "__key", "descriptor"))


def test_parents_and_sources() -> None:
    assert names.cold_parent("f.part.0.cold") == "f.part.0"
    assert names.cold_parent("f.cold.3") == "f"
    assert names.cold_parent("f.coldness") is None
    assert names.source_function("f.part.0.isra.1.cold") == "f"
    assert names.source_function("f") == "f"
    assert names.is_clone("f.isra.0") and not names.is_clone("f")


def test_compilers_own_names() -> None:
    for name in (
        "C.12.34",
        "switch.table.f",
        "switch.table.f.3",
        "__const.f.x",
        ".Lstr",
        ".L.str.4",
        "__func__.f",
    ):
        assert names.is_anonymous(name)
    assert not any(names.is_anonymous(name) for name in ("__func__.3", "C", "str", "switch_table"))
    assert names.is_anonymous("CSWTCH.42") and names.is_anonymous(".LC3") and not names.is_anonymous("CSWTCH")


def test_only_clang_names_a_variables_function() -> None:
    for name in ("count.17", names.canonical("count.17"), "count.lto_priv.0"):
        assert not names.names_its_function(name), name
    for name in ("f.count", "f.count.3", names.canonical("f.count.3")):
        assert names.names_its_function(name), name
