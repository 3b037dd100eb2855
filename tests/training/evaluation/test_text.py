"""The text measures against the libraries' own corpora, a dense computation, and by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nltk
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.corpus.reader import CorpusReader, WordNetCorpusReader
from nltk.corpus.util import LazyCorpusLoader
from sacrebleu.metrics.bleu import BLEU

from litegpt.vocabulary import LABELS
from training.evaluation.bootstrap import Values
from training.evaluation.cider import cider
from training.evaluation.meteor import meteor, wordnet_is_there
from training.evaluation.statements import Answers
from training.evaluation.text import Bleu, likeness

WORDS = st.lists(st.sampled_from(["heart", "lung", "rib", "the", "of", "is"]), max_size=9).map(" ".join)


def answers(*labels: str) -> Answers:
    items = ",".join(f"<p>{label}</p> {{<1><2><3><4>}}" for label in labels)
    return Answers(
        f"Local diseases of this chest radiograph are {items}.", f"Global diseases are {labels[0]}."
    )


def random_answers(rng: np.random.Generator, images: int) -> list[Answers]:
    return [answers(*map(str, rng.choice(LABELS, rng.integers(1, 5)))) for _ in range(images)]


def bleu(said: list[Answers], true: list[Answers]) -> Values:
    return Bleu(said, true).values(np.arange(len(said)))


def test_bleu_of_the_summed_counts_is_sacrebleu_s_of_the_corpus() -> None:
    rng = np.random.default_rng(1)
    said, true = random_answers(rng, 12), random_answers(rng, 12)
    texts = [[" ".join(one.sentences).replace("{<1><2><3><4>}", "") for one in both] for both in (said, true)]
    for order, value in enumerate(bleu(said, true).values(), start=1):
        counter = BLEU(smooth_method="none", max_ngram_order=order)
        assert value == pytest.approx(counter.corpus_score(texts[0], [texts[1]]).score)
        assert 20 < value < 95


def test_bleu_by_hand() -> None:
    said, true = [Answers("", "the heart is large")], [Answers("", "the heart is very large indeed")]
    values = bleu(said, true)
    # All 4 words are in the reference, which is longer: exp(1 - 6 / 4). Of 3 pairs 2 are.
    short = np.exp(1 - 6 / 4)
    assert values["text", "bleu-1"] == pytest.approx(100 * short)
    assert values["text", "bleu-2"] == pytest.approx(100 * short * np.sqrt(2 / 3))
    assert values["text", "bleu-4"] == 0


def test_an_empty_answer_is_worth_nothing() -> None:
    said, true = [Answers("", "")], [answers("Edema")]
    assert set(bleu(said, true).values()) == {0}
    values = likeness(said, true).values(np.arange(1))
    assert values["text", "rouge1"] == values["text", "rougeLsum"] == values["text", "cider"] == 0


def test_rouge_by_hand() -> None:
    said, true = [Answers("large hearts", "lungs clear")], [Answers("the heart", "clear lungs here")]
    values = likeness(said, true).values(np.arange(1))
    # Stemmed: "lung clear large heart" and "clear lung here the heart": 3 of 4 words, 3 of 5, no pair.
    assert values["text", "rouge1"] == pytest.approx(100 * 2 * 3 / (4 + 5))
    assert values["text", "rouge2"] == 0
    # In order: "lung heart". Sentence by sentence, the best of each: "lung" (or "clear"), "heart".
    assert values["text", "rougeL"] == pytest.approx(100 * 2 * 2 / (4 + 5))
    assert values["text", "rougeLsum"] == pytest.approx(100 * 2 * 2 / (4 + 5))


def test_no_finding_stands_alone() -> None:
    said = Answers("Local diseases of this chest radiograph are No finding.", "Global: No finding.")
    assert said.sentences == ("Global: No finding.",)
    assert len(answers("COPD").sentences) == 2


def dense_cider(candidates: list[str], references: list[str]) -> list[float]:
    """CIDEr-D with one matrix for each n and every n-gram a column."""
    likenesses = np.zeros(len(references))
    lengths = [
        np.array([max(0, len(text.split()) - 1) for text in both]) for both in (candidates, references)
    ]
    damping = np.exp(-((lengths[0] - lengths[1]) ** 2) / (2 * 6.0**2))
    for n in (1, 2, 3, 4):
        cut = [[_ngrams(text.split(), n) for text in both] for both in (candidates, references)]
        columns = sorted({ngram for both in cut for text in both for ngram in text})
        if not columns:
            continue
        counts = np.array([[[text.count(ngram) for ngram in columns] for text in both] for both in cut])
        rarity = np.log(len(references) / np.maximum(1, (counts[1] > 0).sum(axis=0)))
        said, true = counts * rarity
        lengths_2 = np.linalg.norm(said, axis=1) * np.linalg.norm(true, axis=1)
        shared = (np.minimum(said, true) * true).sum(axis=1)
        likenesses += np.divide(shared, lengths_2, out=np.zeros(len(references)), where=lengths_2 > 0)
    return (10 * likenesses / 4 * damping).tolist()


def _ngrams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
def test_cider_is_that_of_dense_vectors(pairs: list[tuple[str, str]]) -> None:
    said, true = map(list, zip(*pairs, strict=True))
    assert cider(said, true) == pytest.approx(dense_cider(said, true))


def test_cider_by_hand() -> None:
    """Of two references both have "a", which weighs nothing; all else weighs log 2."""
    # The first shares "b" and "a b" in full and has no longer n-grams; the second shares nothing else.
    assert cider(["a b", "a c"], ["a b", "a d"]) == pytest.approx([10 * (1 + 1 + 0 + 0) / 4, 0])


def test_cider_of_equal_references_is_0_even_of_the_perfect_answer() -> None:
    assert cider(["a b c d e"] * 3, ["a b c d e"] * 3) == [0, 0, 0]


def test_cider_differs_when_its_arguments_are_swapped() -> None:
    said, true = [answers("Edema")] * 3, [answers("Edema"), answers("COPD"), answers("ILD")]
    values = likeness(said, true).values(np.arange(3))
    assert values["text", "cider, as published"] == 0 != values["text", "cider"]


def _look_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> LazyCorpusLoader:
    """Lets nltk find its data there and nowhere else, with a reader that has not looked yet."""
    monkeypatch.setattr(nltk.data, "path", [str(folder)])
    languages = LazyCorpusLoader("omw-1.4", CorpusReader, r".*\.tab")
    fresh = LazyCorpusLoader("wordnet", WordNetCorpusReader, languages)
    monkeypatch.setattr("training.evaluation.meteor.wordnet", fresh)
    return fresh


@pytest.fixture
def small_wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A WordNet of one set of synonyms, in WordNet's own files, where nltk looks for it."""
    folder = tmp_path / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    parts = ("noun", "verb", "adj", "adv")
    empty = [f"{kind}.{part}" for kind in ("index", "data") for part in parts]
    for name in (*empty, *(f"{part}.exc" for part in parts), "index.sense", "cntlist.rev"):
        (folder / name).write_text("")
    (folder / "lexnames").write_text("00\tnoun.state\t1\n")
    (folder / "data.noun").write_text("00000000 00 n 02 tumor 0 neoplasm 0 000 | growth  \n")
    (folder / "index.noun").write_text(
        "".join(f"{word} n 1 0 1 0 00000000  \n" for word in ("neoplasm", "tumor"))
    )
    reader = _look_in(tmp_path, monkeypatch)
    yield
    # nltk leaves its files open; pytest would blame whichever test the garbage collector runs in.
    for file in reader._data_file_map.values():
        file.close()


@pytest.mark.usefixtures("small_wordnet")
def test_meteor_by_hand() -> None:
    assert wordnet_is_there()
    # "lungs" by its stem and "neoplasm" as a synonym, in one run of two: 2 of 2 words, 2 of 3.
    precision, recall = 2 / 2, 2 / 3
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    assert meteor(["lungs neoplasm"], ["lung tumor seen"]) == pytest.approx([mean * (1 - 0.5 * (1 / 2) ** 3)])
    values = likeness([answers("Edema")], [answers("Edema")]).values(np.arange(1))
    assert 99 < values["text", "meteor"] < 100


def test_meteor_is_not_there_without_wordnet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _look_in(tmp_path, monkeypatch)
    assert not wordnet_is_there()
    assert ("text", "meteor") not in likeness([answers("Edema")], [answers("Edema")]).values(np.arange(1))
