# SPDX-License-Identifier: GPL-2.0-or-later
"""kbuild_py: from a YAML manifest to a proven kernel live patch. Start reading at `tasks.py`."""

# As in pyproject.toml.
VERSION = "0.1.0"
# The Debian package of the `kpatch` command, on which every patch's package depends.
RUNTIME_PACKAGE = "kbuild-py-kpatch"
# Of this version: year, month, day.
RELEASED = (2026, 11, 25)
