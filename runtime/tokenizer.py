"""CLIP's byte-pair tokenizer, read from the bundle."""

from pathlib import Path

from tokenizers import Tokenizer

from engines.errors import BundleError

START = "<|startoftext|>"
END = "<|endoftext|>"
COMMA = ",</w>"


class ClipTokenizer:
    """Text to token ids, without limits on length: cutting and padding is the prompt's business.

    Attributes:
        start: the id that opens a chunk.
        end: the id that closes a chunk's text.
        padding: the id that fills a chunk after `end`.
        comma: the id of a comma that ends a word, or None where the vocabulary has none.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take over a tokenizer, which then neither pads nor cuts.

        Raises:
            BundleError: it is not CLIP's.
        """
        padding = tokenizer.padding
        start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
        if padding is None or start is None or end is None:
            raise BundleError(
                "The tokenizer is not CLIP's: tokenizer.json must have the tokens "
                f"{START} and {END} and say how to pad. Export the bundle again."
            )
        self.start: int = start
        self.end: int = end
        self.padding: int = padding["pad_id"]
        self.comma: int | None = tokenizer.token_to_id(COMMA)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer

    @classmethod
    def open(cls, path: Path) -> "ClipTokenizer":
        """Read a `tokenizer.json` in the format of the `tokenizers` library.

        Raises:
            BundleError: the file cannot be read or is not CLIP's.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises Exception itself
            raise BundleError(f"{path} cannot be read: {error}. Export the bundle again.") from None
        return cls(tokenizer)

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, without start, end and padding."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids
