# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof: the recompiled original object is the code that the kernel was shipped with.

A patch is the difference between two compiles.  It fits a running kernel only if the first of them, of the
unpatched source, is what runs.  So each function of the original object is looked up in the shipped image
under its name, its bytes are compared there, and each address that the linker has written into them is
checked against what it should name.  Along the way one learns where the object's static functions and
variables lie: no table in the image can tell that with the same certainty.

Read in this order: `proof.py` (what comes out), `compare.py` (one piece of code or data against one place
in the image), `place.py` (which place is right, when names occur several times), `cause.py` (what is the
matter when nothing fits), `prove.py` (all of it together).  Everything here is pure.
"""

from kbuild_py.baseline.compare import Image, ImageNames
from kbuild_py.baseline.proof import Difference, FunctionProof, Located, Proof, State
from kbuild_py.baseline.prove import prove

__all__ = [
    "Difference",
    "FunctionProof",
    "Image",
    "ImageNames",
    "Located",
    "Proof",
    "State",
    "prove",
]
