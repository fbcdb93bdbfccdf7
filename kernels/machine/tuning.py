"""These thresholds choose among instructions that compute the same bits.

They were measured on one machine, and other machines may need other numbers.
"""

# Matrix products of fewer multiplications take less time in numpy than a call of XLA does.
XLA_MATMUL_TERMS = 1 << 17
# The same for generated code, whose operands have to be packed.
GENERATED_MATMUL_TERMS = 1 << 15
# Each thread of a matrix product has at least so many multiplications.
TERMS_PER_THREAD = 1 << 22
# Up to so many elements, numpy's calls take less time than looking up and calling a generated loop.
NUMPY_ELEMENTS = 1 << 11
# A loop runs along the last axis if that has so many elements, and otherwise along all axes of copies.
LOOP_ELEMENTS = 64
# Up to so many bytes of a stream are copied out of the cipher in less time than they are written in place.
COPIED_STREAM_BYTES = 1 << 12
# Streams are encrypted block by block. This many zeros and the written block stay in the cache.
STREAM_BLOCK_BYTES = 1 << 18
