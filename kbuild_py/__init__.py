# SPDX-License-Identifier: GPL-2.0-or-later
"""kbuild_py: from a YAML manifest to a proven kernel live patch. Start reading at `tasks.py`."""
