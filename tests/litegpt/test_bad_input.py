"""Bad input as a person meets it on the command line: one clear line, an exit code, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydicom.uid import JPEG2000Lossless
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from litegpt.cli import main
from litegpt.model_folder import PROJECTION, write_config
from litegpt.phantoms import phantom_files
from litegpt.radiograph import read_radiograph
from tests.images import make_radiograph
from tests.litegpt.tiny_models import WIDTH, save_tiny_model
from tests.litegpt.tokenizers import byte_level

Complaint = Callable[[Path], str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder without checksums, which would catch everything that is done to it here."""
    save_tiny_model(tmp_path / "model")
    configure(tmp_path / "model", lambda values: values.pop("checksums"))
    return tmp_path / "model"


@pytest.fixture
def complaint(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Complaint:
    """What ``litegpt predict`` says of a model, once it is certain that it is one line and nothing else."""

    def predict(model: Path | str) -> str:
        arguments = ["predict", str(phantom_files()[0]), "--model", str(model), "--device", "cpu"]
        monkeypatch.setattr("sys.argv", ["litegpt", *arguments])
        capfd.readouterr()  # what was said while the model was made
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        said, complained = capfd.readouterr()
        assert said == ""
        (line,) = complained.splitlines()
        assert line.startswith("litegpt: ")
        return line.removeprefix("litegpt: ")

    return predict


def configure(folder: Path, change: Callable[[dict[str, Any]], object], file: str = "config.json") -> None:
    values = json.loads((folder / file).read_text())
    change(values)
    (folder / file).write_text(json.dumps(values))


def edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def publish(folder: Path) -> Path:
    """Has the folder name its language model by path, as if it were a published one."""
    published = folder.parent / "published"
    (folder / "language_model").rename(published)
    configure(folder, lambda values: values.update(language_model={"name": str(published)}))
    return published


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


class TestModels:
    def test_a_tensor_too_many(self, folder: Path, complaint: Complaint) -> None:
        edit(folder / PROJECTION, lambda tensors: tensors.update(stray=torch.zeros(1)))
        assert complaint(folder) == f"{folder / PROJECTION} does not fit the model: stray is one too many"

    def test_a_tensor_too_many_in_a_published_language_model(
        self, folder: Path, complaint: Complaint
    ) -> None:
        published = publish(folder)
        edit(published / "model.safetensors", lambda tensors: tensors.update(stray=torch.zeros(1)))
        expected = f"language model {published} does not fit the model: stray is one too many"
        assert complaint(folder) == expected

    def test_a_file_that_was_changed_after_it_was_saved(self, tmp_path: Path, complaint: Complaint) -> None:
        save_tiny_model(tmp_path)
        edit(tmp_path / PROJECTION, lambda tensors: tensors.update(stray=torch.zeros(1)))
        assert complaint(tmp_path).endswith(
            f"{PROJECTION} is not the file that was saved (its SHA-256 differs)"
        )

    @pytest.mark.parametrize("published", [False, True], ids=["own", "published"])
    def test_a_wrong_vocabulary_size(self, folder: Path, complaint: Complaint, published: bool) -> None:
        place = publish(folder) if published else folder / "language_model"
        size = json.loads((place / "config.json").read_text())["vocab_size"]
        configure(place, lambda values: values.update(vocab_size=size + 7))
        assert f"lm_head.weight is ({size}, 24) instead of ({size + 7}, 24)" in complaint(folder)

    @pytest.mark.parametrize("size", [-3, "many"])
    def test_a_vocabulary_size_that_makes_no_sense(
        self, folder: Path, complaint: Complaint, size: object
    ) -> None:
        configure(folder / "language_model", lambda values: values.update(vocab_size=size))
        assert "language_model holds no language model: " in complaint(folder)

    @pytest.mark.parametrize("published", [False, True], ids=["own", "published"])
    def test_a_tokenizer_of_another_model(self, folder: Path, complaint: Complaint, published: bool) -> None:
        tokenizer = byte_level(splits_digits=True)
        if published:
            place = publish(folder)
            (folder / "tokenizer").rename(folder.parent / "the right one")
        else:
            place = folder / "tokenizer"
        tokenizer.save_pretrained(str(place))
        said = complaint(folder)
        assert f"the tokenizer is another model's, it has {len(tokenizer)} tokens" in said

    def test_a_tokenizer_without_beginning(self, folder: Path, complaint: Complaint) -> None:
        configure(folder / "tokenizer", lambda values: values.pop("bos_token"), "tokenizer_config.json")
        assert complaint(folder) == "the tokenizer has no token for the beginning of a prompt"

    def test_no_tokenizer(self, folder: Path, complaint: Complaint) -> None:
        (folder / "tokenizer" / "tokenizer.json").unlink()
        assert "tokenizer holds no tokenizer: no tokenizer.json" in complaint(folder)

    @pytest.mark.parametrize(
        "file", [PROJECTION, "encoders/a.safetensors", "adapter/adapter_model.safetensors"]
    )
    def test_a_corrupt_safetensors_file(self, folder: Path, complaint: Complaint, file: str) -> None:
        cut(folder / file)
        assert complaint(folder).startswith(f"{folder / file} cannot be read: ")

    @pytest.mark.parametrize("content", [b"", b"no header at all, but longer than one"])
    def test_a_corrupt_published_language_model(
        self, folder: Path, complaint: Complaint, content: bytes
    ) -> None:
        published = publish(folder)
        (published / "model.safetensors").write_bytes(content)
        assert complaint(folder).startswith(f"language model {published} cannot be loaded: ")

    def test_a_corrupt_published_encoder(self, folder: Path, complaint: Complaint, tmp_path: Path) -> None:
        sizes = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_attention_heads": 2}
        tower = CLIPVisionModel(CLIPVisionConfig(num_hidden_layers=1, **sizes))
        tower.save_pretrained(tmp_path / "tower")
        source = {"kind": "transformers", "name": str(tmp_path / "tower")}
        configure(folder, lambda values: values["encoders"].__setitem__(1, source))
        configure(tmp_path / "tower", lambda values: values.update(hidden_size=2 * WIDTH))
        assert f"embeddings.class_embedding is ({WIDTH},) instead of ({2 * WIDTH},)" in complaint(folder)
        cut(tmp_path / "tower" / "model.safetensors")
        assert complaint(folder).startswith(f"encoder {tmp_path / 'tower'} cannot be loaded: ")

    @pytest.mark.parametrize("place", ["model", "encoder", "language model"])
    def test_a_hub_id_without_network(
        self,
        folder: Path,
        complaint: Complaint,
        place: str,
        blocked_network: list[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        name = "litegpt-tests/nowhere"
        if place == "encoder":
            source = {"kind": "open_clip", "name": name}
            configure(folder, lambda values: values["encoders"].__setitem__(0, source))
        if place == "language model":
            configure(folder, lambda values: values.update(language_model={"name": name}))
        assert complaint(name if place == "model" else folder) == (
            f"{name} is no folder here, no copy of it is kept here, and the hub cannot be reached"
        )
        assert blocked_network
        assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda values: values["projection"].update(hidden=-4), "no projection of width -4 can be made"),
            (lambda values: values["instructions"].pop("vqa"), "config.json has no instruction for [vqa]"),
            (
                lambda values: values["instructions"].update(vqa="[vqa] <ImageHere>"),
                "an instruction must not contain <ImageHere>",
            ),
            (
                lambda values: values["preprocessing"].update(std=[0, 1, 1]),
                "images of 224 pixels and std (0.0, 1.0, 1.0) cannot be prepared",
            ),
            (
                lambda values: values["preprocessing"].update(mean=["a", "b", "c"]),
                "mean ['a', 'b', 'c'] is not three numbers",
            ),
            (
                lambda values: values["encoders"][0]["architecture"].update(embed_dim=17),
                "the timm encoder's architecture is not valid: ",
            ),
            (
                lambda values: values["encoders"][0]["architecture"].update(patch_size=0),
                "the timm encoder's architecture is not valid: ",
            ),
            (
                lambda values: values["encoders"][1]["architecture"].update(num_attention_heads=3),
                "the transformers encoder's architecture is not valid: ",
            ),
            (
                lambda values: values.update(operating_point={"version": "1"}),
                "operating_point cannot be read: KeyError",
            ),
            (lambda values: values["encoders"][1].update(kind="none"), "no encoder can be built as 'none'"),
            (
                lambda values: values["language_model"].update(folder="nowhere"),
                "nowhere holds no language model: it has no config.json",
            ),
        ],
    )
    def test_a_configuration_that_makes_no_sense(
        self, folder: Path, complaint: Complaint, change: Callable[[dict[str, Any]], object], expected: str
    ) -> None:
        configure(folder, change)
        assert expected in complaint(folder)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("[]", "config.json is no JSON object"),
            ('{"id": ', "config.json cannot be read: Expecting value: line 1 column 8 (char 7)"),
            ("", "config.json cannot be read: Expecting value: line 1 column 1 (char 0)"),
        ],
    )
    def test_a_configuration_that_is_none(
        self, folder: Path, complaint: Complaint, content: str, expected: str
    ) -> None:
        (folder / "config.json").write_text(content)
        assert complaint(folder) == f"{folder}/{expected}"

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda values: values.update(target_modules=["none"]), "holds no adapter: Target modules"),
            (lambda values: values.update(r=0), "holds no adapter: `r` should be a positive integer"),
            (
                lambda values: values.update(peft_type="IA3"),
                "holds no LoRA adapter, but one of kind IA3",
            ),
        ],
    )
    def test_an_adapter_of_another_kind(
        self, folder: Path, complaint: Complaint, change: Callable[[dict[str, Any]], object], expected: str
    ) -> None:
        configure(folder / "adapter", change, "adapter_config.json")
        assert expected in complaint(folder)

    def test_in_a_process_of_its_own_it_is_one_line_too(self, folder: Path) -> None:
        """Where nothing of pytest stands between the libraries' own messages and the person."""
        published = publish(folder)
        edit(published / "model.safetensors", lambda tensors: tensors.update(stray=torch.zeros(1)))
        ended = run("predict", phantom_files()[0], "--model", folder)
        assert ended.returncode == 2 and ended.stdout == ""
        assert ended.stderr == (
            f"litegpt: language model {published} does not fit the model: stray is one too many\n"
        )


class TestImages:
    def test_of_every_size_they_are_read_or_refused_with_words(self, tmp_path: Path) -> None:
        rows_31623 = make_radiograph(transfer_syntax=JPEG2000Lossless)
        rows_31623.Rows = rows_31623.Columns = 31_623
        images = {
            "a row of none": make_radiograph(Rows=0),
            "a thousand million": rows_31623,
            "constant": make_radiograph(np.full((300, 200), 77, np.uint16)),
            "one by 5000": make_radiograph(rows=1, columns=5000),
            "5000 by one": make_radiograph(rows=5000, columns=1),
            "ordinary": make_radiograph(rows=300, columns=200),
        }
        for name, dataset in images.items():
            dataset.save_as(tmp_path / name, enforce_file_format=True)
        ended = run("predict", *(tmp_path / name for name in images), "--json")
        assert ended.returncode == 1
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        assert [(Path(line["file"]).name, line["rows"], line["columns"]) for line in lines] == [
            ("one by 5000", 1, 5000),
            ("5000 by one", 5000, 1),
            ("ordinary", 300, 200),
        ]
        for line in lines:
            for finding in line["findings"]:
                if finding["box"]:
                    left, top, right, bottom = finding["box"]
                    assert 0 <= left < right <= line["columns"] and 0 <= top < bottom <= line["rows"]
        warning, *complaints = ended.stderr.splitlines()
        assert "is a demonstration" in warning
        assert complaints == [
            f"{tmp_path / 'a row of none'}: the image has 0 rows and 48 columns",
            f"{tmp_path / 'a thousand million'}: 31623 × 31623 pixels are more than the 100000000 allowed",
            f"{tmp_path / 'constant'}: all pixels of the image have the same value: there is nothing to read",
        ]

    def test_one_over_which_the_numbers_overflow_fails_and_the_others_go_on(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 4096, (300, 200), dtype=np.uint16)
        even = np.full((300, 200), 4000, dtype=np.uint16)
        even[0, 0] = 0  # all the same would not be read
        images = {"even": make_radiograph(even), "noise": make_radiograph(noise)}
        files = {name: tmp_path / f"{name}.dcm" for name in images}
        for name, dataset in images.items():
            dataset.save_as(files[name], enforce_file_format=True)
        overflow_over_one(tmp_path / "model", files["noise"], files["even"])
        ended = run("predict", *files.values(), "--model", tmp_path / "model", "--json", "--device", "cpu")
        assert ended.returncode == 1
        (line,) = map(json.loads, ended.stdout.splitlines())
        assert line["file"] == str(files["even"]) and line["findings"]
        assert ended.stderr.splitlines()[1:] == [
            f"{files['noise']}: the model's numbers became NaN or infinite in its answer to "
            "[identify] and [vqa]"
        ]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "litegpt.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def overflow_over_one(model: Path, too_large: Path, fitting: Path) -> None:
    """A model with a hidden unit that no output hears, as its weights are 0, and that one image overflows."""
    loaded = save_tiny_model(model)
    images = loaded.preprocessings[0]([read_radiograph(file) for file in (too_large, fitting)])
    tokens = loaded.model.visual_tokens(images)  # (2, 245, width)
    groups = F.layer_norm(tokens, tokens.shape[-1:]).reshape(2, 49, -1)  # (2, 49, 5 · width)
    large, small = groups.abs().amax(dim=1)  # each (5 · width,)
    feature = int((large / small).where(large > 2, 0.0).argmax())
    # Some processors' GELU doubles what it gets before it halves it.
    assert large[feature] > 5 * small[feature]

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            tensors[name] = tensor.float()
        limit = torch.finfo(torch.float32).max
        tensors["fc1.weight"][0] = 0.0
        tensors["fc1.weight"][0, feature] = 2 * (limit / float(large[feature]))
        tensors["fc1.bias"][0] = 0.0
        tensors["fc2.weight"][:, 0] = 0.0

    edit(model / PROJECTION, change)
    write_config(model, loaded.config)
