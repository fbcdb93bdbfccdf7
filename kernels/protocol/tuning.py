"""These thresholds were measured on one machine, and other machines may need other numbers.

The first group chooses among instructions that compute the same bits (`local_step`). The second group chooses
among protocols. Both parties and the dealer must agree on it, and `Kernel.variant` names the choice.
"""

# These numbers choose other instructions for the same bits.

# Up to so many bytes of elements turn into bit planes faster through a byte per bit than by word operations.
FEW_ELEMENT_BYTES = 3 << 9
# Up to so many bytes of planes, a few calls over all digits are faster than passes that stay in the cache.
FEW_PLANE_BYTES = 1 << 10
# Up to so many bytes of inputs of products of bits, a few calls over all terms beat one call per term.
FEW_INPUT_BYTES = 1 << 10
# Tables are looked up for so many elements at a time, which stay in the cache.
LOOKED_UP_ELEMENTS = 1 << 13
# Factors of exponentials are looked up in windows of up to so many bits, and computed in larger windows.
FACTOR_TABLE_BITS = 16
# Public factors of up to so many limbs, by ring, are multiplied faster in float64 than as integers.
FLOAT_LIMBS = {8: 1, 16: 1, 32: 1, 64: 6}
# An embedding expands so many bytes of one-hot shares at once.
ONE_HOT_TILE_BYTES = 1 << 22
# Where a party's turn takes so long in one process, the two others take theirs side by side.
LONG_TURN_SECONDS = 3e-4

# These numbers choose other messages or another protocol.

# Up to so many elements, a series deals its waves side by side for numpy. Beyond, it deals each apart for
# XLA.
SERIES_ROWS_ELEMENTS = 1 << 13
# Up to so many elements, joint selections share an opening. Beyond, joining costs more passes over memory.
JOINED_SELECTION_ELEMENTS = 1 << 13
# Up to so many elements of ring 16, an activation chooses in the larger ring of its result, which saves a
# round for some 16 dealt bytes an element.
LIFTED_ELEMENTS = 1 << 12
# Up to so many bytes of one-hot digits cost less than the rounds that they save in signs and range bits.
ONE_HOT_BYTES = 3 << 13
# Up to so many dealt bytes cost less than the rounds that inverses by octaves save, with room for the roots
# of a layer norm of 128 rows.
OCTAVES_BYTES = 3 << 16
# Up to so many dealt bytes cost less than the rounds that a maximum by counts saves.
COUNTED_BYTES = 1 << 20
# Up to so many numerators of a softmax are brought into ring 64 for the last product, which saves a round.
SHORT_NUMERATORS = 1 << 12
# A tournament over up to so many entries in all rows has groups that give the fewest levels, of at most
# LARGE_GROUP entries each.
TOURNAMENT_ENTRIES = 1 << 10
# Products of up to seven bits take one round, so that groups of eight entries can be compared at once.
LARGE_GROUP = 8
# Otherwise levels of up to so many entries compare all pairs in groups of LATE_GROUP. There rounds cost more
# than bytes.
LATE_ENTRIES = 16
LATE_GROUP = 4
# An argmax over up to so many values compares all pairs in groups of four on every level, which takes fewer
# rounds and more bytes.
ARGMAX_VALUES = 1 << 11
# Products of at least so many elements that are lifted or truncated take a round more, which saves a quarter
# to two fifths of their bytes.
GATHERED_ELEMENTS = 1 << 16
# Up to so many rows are normalised in five rounds. A row's tables take 33 KB in layer norms and 52 KB in root
# mean squares, whatever its length. That is the cost of 540 or 860 elements in the other form. All rows share
# the rounds, but each row has bytes of its own, so that with more rows the bytes count more.
FIVE_ROUND_ROWS = 4
