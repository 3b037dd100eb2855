"""One answer as it was generated, and how probable its parts were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer as it was generated.

    Attributes:
        text: Decoded, without EOS.
        token_ends: For each token, where in ``text`` its characters end.
        token_probabilities: For each token, the model's probability of it, given all before it; in
            constrained decoding, among the tokens that were legal.
        failed: Whether the answer breaks off because the model's numbers were NaN or infinite.
    """

    text: str
    token_ends: tuple[int, ...]
    token_probabilities: tuple[float, ...]
    failed: bool = False

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        ids: Sequence[int],
        probabilities: Sequence[float],
        *,
        failed: bool = False,
    ) -> Generated:
        """Decodes the tokens up to EOS."""
        if tokenizer.eos_token_id in ids:
            ids = ids[: ids.index(tokenizer.eos_token_id)]
        # Prefix by prefix is right for every tokenizer, also where a token's text depends on its neighbours.
        texts = [str(tokenizer.decode(list(ids[:count]))) for count in range(1, len(ids) + 1)]
        ends = tuple(len(text) for text in texts)
        return cls(texts[-1] if texts else "", ends, tuple(probabilities[: len(ids)]), failed)

    def probability(self, start: int, end: int) -> float:
        """Probability of the text from character ``start`` to ``end``: product over its tokens."""
        product, token_start = 1.0, 0
        for token_end, probability in zip(self.token_ends, self.token_probabilities, strict=True):
            if token_start < end and start < token_end:
                product *= probability
            token_start = token_end
        return min(1.0, product)
