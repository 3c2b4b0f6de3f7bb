"""Names in a prompt that stand for the vectors of a textual-inversion embedding."""

import re
from collections.abc import Mapping

from engines import layout
from engines.bundle import Bundle
from engines.manifest import EmbeddingSpec
from runtime.tokenizer import ClipTokenizer


class EmbeddingVocabulary:
    """A tokenizer that reads the names of a bundle's embeddings as runs of their own ids.

    As in the webui, a name counts without regard to case wherever it is a word, or words, of its
    own; the longest one wins.

    Attributes:
        start: as the tokenizer has it, and so the next three.
        end: the id that closes a chunk's text.
        padding: the id that fills a chunk after `end`.
        comma: the id of a comma that ends a word, or None where the vocabulary has none.
    """

    def __init__(self, tokenizer: ClipTokenizer, embeddings: Mapping[str, EmbeddingSpec]) -> None:
        self.start = tokenizer.start
        self.end = tokenizer.end
        self.padding = tokenizer.padding
        self.comma = tokenizer.comma
        self._tokenizer = tokenizer
        names = sorted(embeddings, key=len, reverse=True)
        self._runs = [
            tuple(range(spec.first_id, spec.first_id + spec.vectors))
            for spec in map(embeddings.__getitem__, names)
        ]
        self._names = re.compile("|".join(map(_pattern, names)) or r"(?!)", re.IGNORECASE)

    def runs(self, text: str) -> list[tuple[int, ...]]:
        """The token ids of `text`, those of an embedding together and all others alone."""
        runs: list[tuple[int, ...]] = []
        begin = 0
        for match in self._names.finditer(text):
            runs += self._plain(text[begin : match.start()])
            runs.append(self._runs[(match.lastindex or 1) - 1])
            begin = match.end()
        return runs + self._plain(text[begin:])

    def _plain(self, text: str) -> list[tuple[int, ...]]:
        return [(token,) for token in self._tokenizer.encode(text)]


def open_vocabulary(bundle: Bundle) -> EmbeddingVocabulary:
    """A bundle's tokenizer with the bundle's embeddings.

    Raises:
        BundleError: the tokenizer cannot be read, or is not CLIP's.
    """
    tokenizer = ClipTokenizer.open(bundle.path / layout.TOKENIZER_FILE)
    return EmbeddingVocabulary(tokenizer, bundle.manifest.embeddings)


def _pattern(name: str) -> str:
    """The name in a group, where no letter touches a letter of it, and no digit a digit.

    So CLIP divides words: `style2` is the word `style` and the digit 2.
    """
    words = r"\s+".join(map(re.escape, name.split()))
    return f"{_edge(name.strip()[0], '<!')}({words}){_edge(name.strip()[-1], '!')}"


def _edge(character: str, look: str) -> str:
    if character.isdigit():
        return rf"(?{look}\d)"
    return rf"(?{look}[^\W\d_])" if character.isalpha() else ""
