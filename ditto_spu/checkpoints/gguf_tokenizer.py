"""Build the tokenizer that the metadata of a GGUF file describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ditto_spu.errors import InputError

_CONTROL = (3, 4)  # types of tokens that stand for themselves in a text: control tokens and user-defined ones
# How a text is cut before its bytes are merged. The names are llama.cpp's; the cuts are those of the models'
# own tokenizer.json.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _WORDS.replace("{DIGITS}", "{1,3}")
_QWEN2 = _WORDS.replace("{DIGITS}", "")


@dataclass(frozen=True)
class Cut:
    """How a text becomes tokens of merged bytes.

    digits: whether each digit stands alone. composed: whether letters and their accents are joined first.
    whole: whether a word that is a token is taken without merging. starts: whether a text starts with the
    token for it, unless the file says otherwise.
    """

    pattern: str
    digits: bool = False
    composed: bool = False
    whole: bool = False
    starts: bool = False


CUTS = {
    "default": Cut(_GPT2),
    "gpt-2": Cut(_GPT2),
    "smollm": Cut(_GPT2, digits=True),
    "llama-bpe": Cut(_LLAMA3, whole=True, starts=True),
    "llama3": Cut(_LLAMA3, whole=True, starts=True),
    "qwen2": Cut(_QWEN2, composed=True),
}


def build(path: Path, fields: Mapping[str, Any]) -> tuple[Any, dict[str, str], frozenset[int]]:
    """Return (tokenizer, texts of special tokens by name, ids that end a text).

    Raises InputError for a kind of tokenizer or a way to cut texts that is not known here.
    """
    tokens = fields.get("tokenizer.ggml.tokens")
    kind = fields.get("tokenizer.ggml.model")
    if not tokens or kind not in _BUILDERS:
        raise InputError(
            f"{path} holds a tokenizer of kind '{kind}': supported are {', '.join(_BUILDERS)}; "
            "put tokenizer.json and config.json of the model into a folder with the .gguf file"
        )
    ids = {
        name: fields.get(f"tokenizer.ggml.{key}_token_id")
        for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"))
    }
    special = {name: tokens[value] for name, value in ids.items() if value is not None}
    inner = _BUILDERS[kind](path, fields, list(tokens))
    _add_special(inner, fields, list(tokens))
    usual = CUTS[fields.get("tokenizer.ggml.pre", "default")].starts if kind == "gpt2" else kind == "llama"
    first = ids["bos_token"] if fields.get("tokenizer.ggml.add_bos_token", usual) else None
    if first is not None:
        _start_with(inner, tokens[first], first)
    ends = (ids["eos_token"], fields.get("tokenizer.ggml.eot_token_id"))
    return inner, special, frozenset(int(each) for each in ends if each is not None)


def _bytes(path: Path, fields: Mapping[str, Any], tokens: list[str]) -> Any:
    """Build a tokenizer that merges bytes, as GPT-2 does."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    cut = fields.get("tokenizer.ggml.pre", "default")
    if cut not in CUTS:
        raise InputError(
            f"{path} cuts texts as '{cut}' does: known are {', '.join(CUTS)}; "
            "put tokenizer.json of the model into a folder with the .gguf file"
        )
    found = CUTS[cut]
    merges = [tuple(each.split(" ")) for each in fields["tokenizer.ggml.merges"]]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    inner = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=found.whole))
    steps = [pre_tokenizers.Digits(individual_digits=True)] if found.digits else []
    steps.append(pre_tokenizers.Split(Regex(found.pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    inner.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if found.composed:
        inner.normalizer = normalizers.NFC()
    inner.decoder = decoders.ByteLevel()
    return inner


def _pieces(path: Path, fields: Mapping[str, Any], tokens: list[str]) -> Any:
    """Build a tokenizer of pieces with scores, as Llama 2 and Mistral have it."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    place = {token: number for number, token in enumerate(tokens)}
    merges = [
        (-place[token], token[:cut], token[cut:])
        for token in tokens
        for cut in range(1, len(token))
        if token[:cut] in place and token[cut:] in place
    ]
    scores = fields["tokenizer.ggml.scores"]
    # A merge ranks by the score of what it makes; of one piece, the merge of earlier pieces goes first.
    merges.sort(key=lambda each: (-scores[-each[0]], place[each[1]], place[each[2]]))
    unknown = fields.get("tokenizer.ggml.unknown_token_id", 0)
    inner = Tokenizer(
        models.BPE(
            place,
            [(left, right) for _, left, right in merges],
            unk_token=tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    steps: list[Any] = [normalizers.Replace(" ", "▁")]
    ends: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if fields.get("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend("▁"))
        ends.append(decoders.Strip(content=" ", left=1))
    inner.normalizer = normalizers.Sequence(steps)
    inner.decoder = decoders.Sequence(ends)
    return inner


def _words(path: Path, fields: Mapping[str, Any], tokens: list[str]) -> Any:
    """Build a tokenizer of parts of words, as BERT has it. GGUF marks words, and BERT marks their rest."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    types = fields["tokenizer.ggml.token_type"]
    plain = [
        token
        if kind in _CONTROL or token.startswith("[")
        else token[1:]
        if token.startswith("▁")
        else f"##{token}"
        for token, kind in zip(tokens, types, strict=True)
    ]
    place = {token: number for number, token in enumerate(plain)}
    inner = Tokenizer(models.WordPiece(place, unk_token="[UNK]"))
    # The file does not say whether letters become small, but a table with large ones wants them.
    large = any(token != token.lower() for token in plain if not token.startswith("["))
    inner.normalizer = normalizers.BertNormalizer(lowercase=not large)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", place["[CLS]"]), ("[SEP]", place["[SEP]"])],
    )
    return inner


_BUILDERS = {"gpt2": _bytes, "llama": _pieces, "bert": _words}


def _add_special(inner: Any, fields: Mapping[str, Any], tokens: list[str]) -> None:
    from tokenizers import AddedToken

    types = fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    named = [token for token, kind in zip(tokens, types, strict=True) if kind == 3]
    inner.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in named])
    mine = [token for token, kind in zip(tokens, types, strict=True) if kind == 4]
    inner.add_tokens([AddedToken(token, normalized=False) for token in mine])


def _start_with(inner: Any, token: str, place: int) -> None:
    from tokenizers import processors

    inner.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A $B", special_tokens=[(token, place)]
    )
