"""Thresholds that were measured: all were found on one machine, and others may want other numbers.

The first group chooses among instructions that compute the same bits (`local_step`). The second chooses among
protocols: both parties and the dealer must agree on it, and `Kernel.variant` names the choice.
"""

# The same bits by other instructions.

# A stream of so many bytes is copied out of the cipher in less time than it is written in place.
COPIED_STREAM_BYTES = 1 << 12
# Streams are encrypted block by block: this many zeros and the block that is written stay in the cache.
STREAM_BLOCK_BYTES = 1 << 18
# Elements of so many bytes turn into bit planes faster through a byte a bit than by word operations.
FEW_ELEMENT_BYTES = 3 << 9
# Planes of so many bytes: a few calls over all digits take less time than passes that stay in the cache.
FEW_PLANE_BYTES = 1 << 10
# More planes than these many bytes are compared block by block, for more would leave the caches.
COMPARED_BYTES = 1 << 21
# Blocks of a comparison have so many words at least.
COMPARED_WORDS = 64
# Inputs of products of bits of so many bytes: a few calls over all terms beat a call for each.
FEW_INPUT_BYTES = 1 << 10
# Tables are looked up for so many elements at a time, which stay in the cache.
LOOKED_UP_ELEMENTS = 1 << 13
# Exponentials of so many elements are multiplied faster by numpy than by a call of XLA.
NUMPY_PRODUCT_ELEMENTS = 1 << 12
# Factors of exponentials in windows of so many bits are looked up, those of larger windows are computed.
FACTOR_TABLE_BITS = 16
# Matrix products of so many multiplications take less time in numpy than a call of XLA does.
NUMPY_MATMUL_TERMS = 1 << 17
# Public factors of so many limbs, by ring, are multiplied faster in float64 than as integers.
FLOAT_LIMBS = {8: 1, 16: 1, 32: 1, 64: 6}
# Bytes of one-hot shares that an embedding expands at once.
ONE_HOT_TILE_BYTES = 1 << 22

# Other messages, or another protocol.

# So many elements: a series deals its waves side by side for numpy, beyond that each apart for XLA.
SERIES_ROWS_ELEMENTS = 1 << 13
# So many elements: joint selections share an opening, beyond that joining costs more passes over memory.
JOINED_SELECTION_ELEMENTS = 1 << 13
# So many bytes dealt one-hot cost less than the rounds that they save in signs and range bits.
ONE_HOT_BYTES = 3 << 13
# So many bytes dealt cost less than the rounds that inverses by octaves save.
OCTAVES_BYTES = 1 << 15
# A tournament over so many entries in all rows takes groups for the fewest levels, of at most LARGE_GROUP.
TOURNAMENT_ENTRIES = 1 << 10
# Products of up to seven bits take one round, so that groups of eight entries are compared at once.
LARGE_GROUP = 8
# Otherwise levels of so many entries compare all pairs of LATE_GROUP: their rounds cost more than bytes do.
LATE_ENTRIES = 16
LATE_GROUP = 4
# An argmax over so many values compares all pairs of four on every level: fewer rounds, more bytes.
ARGMAX_VALUES = 1 << 11
# So many rows are normalised in five rounds. A row's tables take 33 KB in layer norms and 52 KB in root mean
# squares, whatever its length: what 540 or 860 elements cost otherwise. All rows share the rounds, but each
# has its bytes, so that with more rows the bytes count more.
FIVE_ROUND_ROWS = 4
