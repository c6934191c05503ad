# SPDX-License-Identifier: GPL-2.0-or-later
"""What leaves the build: signatures, the record, Debian packages."""
