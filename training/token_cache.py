"""The encoders' tokens, computed once while the encoders are frozen and nothing augments the pixels.

    FOLDER/tokens-0123456789abcdef/      the tokens (``training.shards``), by the keys of the squares

The folder is named for all that decides about tokens: the encoders' weights, how they come together, and how
pixels are normalised. Other weights have another folder, so tokens are never stale.

Tokens are kept as float16, 376 kB for the paper's 245 × 768. Rounding moves a value by at most 1/2048 of
itself (by at most 3·10⁻⁸ where it is smaller than 6·10⁻⁵), an eighth of what bfloat16 would in as many bytes.
A token that float16 cannot hold is refused, not stored as infinite.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from litegpt.encoders import Encoder
from litegpt.model_folder import LiteGPT
from litegpt.preprocessing import prepare
from litegpt.projection import IMAGE_EMBEDDINGS
from litegpt.squares import SquashedImage
from training.errors import TrainingError
from training.shard_writer import ShardWriter
from training.shards import RecordForm, Shards
from training.squares import Squares

TOKENS_VERSION: Final = 1
"""Of what becomes of a square on the way to its tokens, apart from what the fingerprint covers. To be raised
with every change of ``litegpt.preprocessing``, ``encoders`` or ``projection.fuse`` that changes tokens."""

_COMMIT_BATCHES: Final = 16
"""So much work a killed run may lose."""

Progress = Callable[[int, int], None]
"""Told how many of how many images are done."""


def encoders_fingerprint(loaded: LiteGPT) -> bytes:
    """A SHA-256 of all that decides about an image's tokens; other weights have another one."""
    made_of = {
        "version": TOKENS_VERSION,
        "fusion": loaded.model.fusion,
        # Weights do not tell all: heads, activations
        "encoders": [(source.kind, source.name, source.architecture) for source in loaded.config.encoders],
        "preprocessing": [preprocessing.to_json() for preprocessing in loaded.preprocessings],
    }
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
    for name, tensor in sorted(loaded.model.encoders.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)  # (elements,)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.digest()


class Tokens:
    """The tokens of a list of images, (tokens, width) float16 each, mapped from disk.

    Attributes:
        squares: Whose they are, with what is missing.
    """

    def __init__(self, squares: Squares, shards: Shards) -> None:
        self.squares = squares
        self._shards = shards
        numbers = [None if key is None else shards.number(key) for key in squares.keys]
        self._numbers = [-1 if number is None else number for number in numbers]

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> NDArray[np.float16]:
        """One image's, (tokens, width), read-only; ``np.stack`` some of them to go on to torch.

        Raises:
            TrainingError: If the image is missing, or its tokens were damaged on disk since.
            IndexError: If there is no such place.
        """
        number = self._numbers[place]
        if number < 0:
            raise TrainingError(f"{self.squares.files[place]}: its tokens are not cached")
        tokens: NDArray[np.float16] = self._shards[number]
        return tokens


@dataclass(frozen=True, slots=True)
class TokenCache:
    """The tokens of one set of frozen encoders. Making this object reads and writes nothing.

    Attributes:
        caches: Folder of all caches; made when something is put in.
        fingerprint: Of the encoders (``encoders_fingerprint``).
    """

    caches: Path
    fingerprint: bytes

    @property
    def folder(self) -> Path:
        """Where the tokens lie."""
        return self.caches / f"tokens-{self.fingerprint.hex()[:16]}"

    def fill(
        self,
        loaded: LiteGPT,
        squares: Squares,
        batch_size: int,
        device: str = "cpu",
        progress: Progress | None = None,
        *,
        verify: bool = False,
    ) -> Tokens:
        """Encodes the images whose tokens are not there yet. What is done stays when it is broken off.

        Args:
            loaded: Whose encoders, on ``device``; they run in evaluation mode and in their own precision.
            squares: The images; those that are missing stay so.
            batch_size: Images at once.
            device: Where the encoders are.
            progress: Told after each batch.
            verify: Also read all tokens that are there, and make damaged ones anew.

        Raises:
            TrainingError: If these are not the encoders of the fingerprint, they do not fit the squares, or a
                token is no number that float16 can hold.
            ShardError: If another process fills this cache, it is damaged, or the disk is full.
        """
        report = progress or (lambda done, total: None)
        form = self._form(loaded, squares)
        shards = Shards(self.folder, form)
        damaged = {shards.key(number) for number in shards.damaged()} if verify else set()
        # By key: images that are the same are encoded once
        places = {key: place for place, key in enumerate(squares.keys) if key is not None}
        todo = {key: place for key, place in places.items() if shards.number(key) is None or key in damaged}
        report(len(places) - len(todo), len(places))
        if todo:
            with ShardWriter(self.folder, form) as writer:
                for count, batch in enumerate(_batches(list(todo.items()), batch_size), 1):
                    encoded = _encode(loaded, squares, [place for _, place in batch], device)
                    for (key, _), tokens in zip(batch, encoded, strict=True):
                        writer.append(key, tokens)
                    if count % _COMMIT_BATCHES == 0:
                        writer.commit()
                    report(len(places) - len(todo) + min(count * batch_size, len(todo)), len(places))
        return Tokens(squares, Shards(self.folder, form))

    def _form(self, loaded: LiteGPT, squares: Squares) -> RecordForm:
        if encoders_fingerprint(loaded) != self.fingerprint:
            raise TrainingError(f"{self.folder}: the model's encoders are not those that this cache is for")
        sizes = sorted({preprocessing.size for preprocessing in loaded.preprocessings})
        if sizes != [squares.size]:
            wanted = " and ".join(map(str, sizes))
            raise TrainingError(
                f"images are cached with a side of {squares.size}; the encoders want {wanted}"
            )
        encoders = [cast(Encoder, encoder) for encoder in loaded.model.encoders]
        if loaded.model.fusion == "paper":
            shape = sum(encoder.tokens for encoder in encoders), encoders[0].width
        else:
            shape = IMAGE_EMBEDDINGS, sum(encoder.width for encoder in encoders)
        return RecordForm("<f2", shape)


def _batches(items: Sequence[tuple[bytes, int]], size: int) -> Iterator[Sequence[tuple[bytes, int]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _encode(loaded: LiteGPT, squares: Squares, places: Sequence[int], device: str) -> NDArray[np.float16]:
    """(batch, tokens, width) of some images, as the model makes them when it reads."""
    different = len(dict.fromkeys(loaded.preprocessings))
    images = [SquashedImage(squares.size, squares.size, (squares[place],) * different) for place in places]
    dtype = next(loaded.model.encoders.parameters()).dtype
    with _evaluating(loaded), torch.inference_mode(), torch.autocast(device.partition(":")[0], enabled=False):
        prepared = prepare(loaded.preprocessings, images, device)  # each (batch, 3, size, size)
        tokens = loaded.model.visual_tokens([each.to(dtype) for each in prepared])  # (batch, tokens, width)
        halves = tokens.to(torch.float16).cpu()  # (batch, tokens, width)
    for place, whole in zip(places, halves.isfinite().flatten(1).all(dim=1).tolist(), strict=True):
        if not whole:
            raise TrainingError(f"{squares.files[place]}: float16 cannot hold its tokens; train without them")
    return halves.numpy()


@contextmanager
def _evaluating(loaded: LiteGPT) -> Iterator[None]:
    encoders = loaded.model.encoders
    was_training = encoders.training
    encoders.eval()
    try:
        yield
    finally:
        encoders.train(was_training)
