"""Graph ↔ .secateur file. docs/format.md specifies the bytes; all validation of files from strangers is here.

container.py     a safetensors file of byte strings with checksums
document.py      the graph and how each weight is stored, as deflated JSON (strict.py reads that)
codecs.py        a weight ↔ bytes, by the coder in native/src/codec
quantisation.py  weights rounded to few values
"""

from secateur.packfile.description import Description, QuantisedDescription, WeightDescription, bound_bytes, describe
from secateur.packfile.document import Metadata
from secateur.packfile.quantisation import BITS, CODEBOOKS
from secateur.packfile.reading import LIMIT, Packed, dense_weights, read, read_packed, to_safetensors, unpack
from secateur.packfile.writing import check_free, packed_size, packed_sizes, write

__all__ = [
    "BITS",
    "CODEBOOKS",
    "LIMIT",
    "Description",
    "Metadata",
    "Packed",
    "QuantisedDescription",
    "WeightDescription",
    "bound_bytes",
    "check_free",
    "dense_weights",
    "describe",
    "packed_size",
    "packed_sizes",
    "read",
    "read_packed",
    "to_safetensors",
    "unpack",
    "write",
]
