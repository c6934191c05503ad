# SPDX-License-Identifier: GPL-2.0-or-later
"""Two objects of one translation unit -> a patch object, or why there is none. Start at `diff.py`."""
