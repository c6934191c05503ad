# SPDX-License-Identifier: GPL-2.0-or-later
"""The image's own symbols.

A kernel with CONFIG_KALLSYMS_ALL carries the names and addresses of all its symbols, static ones too,
because oops messages and kprobes need them.  The library vmlinux-to-elf finds that table in the image and
unpacks it; so no debug package is needed.  It takes seconds, and the answer depends on the image only, so
it is kept under the image's build ID: a text file of lines `address type name`, as /proc/kallsyms prints
them with KASLR off.

Order matters.  The table is sorted by address, and the kernel's kallsyms_on_each_symbol() walks it in that
order.  Many static symbols share a name; a live patch says which one it means by its position (`sympos`,
counted from 1) among the symbols of that name, in exactly this order and whatever their type.

Per-CPU symbols have small absolute addresses (type A): offsets into each CPU's area, between
`__per_cpu_start` (0) and `__per_cpu_end`.
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_left, bisect_right
from functools import cached_property
from pathlib import Path

from kbuild_py.errors import refuse
from kbuild_py.files import write_atomic
from kbuild_py.kernel.image import ImageSymbol, KernelImage, OutsideImage


class KernelSymbols:
    """All symbols of an image, in kallsyms order.  Loading is fast; indices are made when first used."""

    def __init__(self, text: str, place: object) -> None:
        words = text.split()
        if len(words) < 3 or len(words) % 3:
            raise refuse(place, "is not a list of symbols", "remove the file and build again")
        try:
            self.addresses = [int(word, 16) for word in words[0::3]]
        except ValueError as error:
            raise refuse(place, f"is not a list of symbols: {error}", "remove it and build again") from error
        if self.addresses != sorted(self.addresses):
            raise refuse(
                place, "its symbols are not in the order of their addresses", "remove it and build again"
            )
        self.types = words[1::3]
        self.names = words[2::3]
        self.place = place

    @classmethod
    def load(cls, path: Path) -> KernelSymbols:
        """Read the file that `recover` made."""
        try:
            symbols = cls(path.read_text(encoding="utf-8", errors="replace"), path)
        except OSError as error:
            raise refuse(path, f"cannot read: {error.strerror}", "build again") from error
        # Every kernel's linker script has it, behind all code and data.
        if "_end" not in symbols.names:
            raise refuse(path, "is cut off: the symbol _end is missing", "remove the file and build again")
        return symbols

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> ImageSymbol:
        return ImageSymbol(self.addresses[index], self.types[index], self.names[index])

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        index: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            index.setdefault(name, []).append(number)
        return index

    def named(self, name: str) -> tuple[ImageSymbol, ...]:
        """All symbols of that name in kallsyms order, so that element n has sympos n + 1."""
        return tuple(self[index] for index in self._by_name.get(name, ()))

    def unique(self, name: str) -> ImageSymbol | None:
        """The symbol of that name if it is the only one."""
        found = self._by_name.get(name, ())
        return self[found[0]] if len(found) == 1 else None

    def sympos(self, name: str, address: int) -> int:
        """The position, counted from 1, of the symbol at `address` among those called `name`, as the kernel
        counts.  Raises LookupError when there is none."""
        for position, index in enumerate(self._by_name.get(name, ()), 1):
            if self.addresses[index] == address:
                return position
        raise LookupError(f"no symbol {name} at {address:#x}")

    def at(self, address: int) -> tuple[ImageSymbol, ...]:
        """All symbols (aliases) whose address is exactly `address`, in kallsyms order."""
        first, last = bisect_left(self.addresses, address), bisect_right(self.addresses, address)
        return tuple(self[index] for index in range(first, last))

    def containing(self, address: int) -> tuple[ImageSymbol, ...]:
        """The symbols at the greatest address that is not above `address`; () if it is below all."""
        index = bisect_right(self.addresses, address)
        return self.at(self.addresses[index - 1]) if index else ()

    def size(self, address: int) -> int:
        """Bytes from `address` to the next symbol at a greater address: an upper bound of the size of what
        lies there, padding included (kallsyms has no sizes).  0 behind the last symbol."""
        index = bisect_right(self.addresses, address)
        return self.addresses[index] - address if index < len(self.addresses) else 0

    @cached_property
    def percpu_range(self) -> range:
        """The addresses of per-CPU symbols."""
        start, end = self.unique("__per_cpu_start"), self.unique("__per_cpu_end")
        return range(start.address, end.address) if start and end else range(0)


class _Chatter(logging.Handler):
    """Keeps what the library logs, for the error if there is one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def recover(data: bytes, place: object) -> str:
    """The symbols of an ELF image, as lines `address type name` in kallsyms order, checked for sense."""
    # Slow to import (numbers of tables, a database), and needed once per kernel only.
    from vmlinux_to_elf.core.kallsyms import KallsymsFinder

    chatter = _Chatter()
    root = logging.getLogger()
    root.addHandler(chatter)
    try:
        finder = KallsymsFinder(data)
        rows = list(zip(finder.kernel_addresses, finder.symbol_names, strict=True))
    except Exception as error:  # the library guesses, and fails with whatever its guess runs into
        said = "".join(f"\n{line}" for line in chatter.lines[-5:])
        raise refuse(
            place,
            f"the image's symbols cannot be recovered: {error!r}{said}",
            "only kernels with CONFIG_KALLSYMS and CONFIG_KALLSYMS_ALL can be patched",
        ) from error
    finally:
        root.removeHandler(chatter)
    text = "".join(f"{address:016x} {name[:1]} {name[1:]}\n" for address, name in rows)
    check(KernelSymbols(text, place), KernelImage(data, place))
    return text


def check(symbols: KernelSymbols, image: KernelImage) -> None:
    """Refuse symbols that do not fit the image: out of order, misplaced, or not all of them there."""
    place = image.place
    text = image.section(".text")
    start = symbols.unique("_text") or symbols.unique("_stext")
    if text is None or start is None or start.address != text.address:
        raise refuse(place, "the recovered symbols do not begin where .text does")
    odd = next((name for name in symbols.names if not re.fullmatch(r"[A-Za-z_.$][\w.$]*", name)), "")
    if odd:
        raise refuse(place, f"a recovered symbol has the impossible name {odd!r}")
    banner(symbols, image)


def banner(symbols: KernelSymbols, image: KernelImage) -> str:
    """What the kernel prints first: `Linux version 6.1.0-50-amd64 (...) (gcc-12 ...) #1 SMP ...`.

    An image may have more than one text of this form (a weak one that was overridden), so it is read where
    the symbol says; that also proves the symbols' addresses.
    """
    symbol = symbols.unique("linux_banner")
    try:
        text = image.read(symbol.address, symbols.size(symbol.address)) if symbol else b""
    except OutsideImage:
        text = b""
    if not text.startswith(b"Linux version ") or b"\0" not in text:
        raise refuse(image.place, "the symbol linux_banner does not lead to the image's banner")
    return text[: text.index(b"\0")].decode(errors="replace").rstrip("\n")


def recover_cached(image: KernelImage, vmlinux: Path, cache: Path) -> Path:
    """The file in the folder `cache` with the symbols of `image`, which is at `vmlinux`; made if missing."""
    path = cache / f"{image.build_id}.kallsyms"
    if not path.exists():
        write_atomic(path, recover(vmlinux.read_bytes(), vmlinux))
    return path
