"""CLIP's vocabulary as packaged data."""

from pathlib import Path

from convert.clip_vocabulary import write_clip_tokenizer


def test_ids_are_those_of_clip(tmp_path: Path) -> None:
    # The ids that CLIP's own tokenizer gives.
    from transformers import CLIPTokenizerFast

    write_clip_tokenizer(tmp_path)
    tokenizer = CLIPTokenizerFast.from_pretrained(tmp_path, local_files_only=True)
    assert len(tokenizer) == 49408
    cat = tokenizer("a photo of a cat").input_ids
    assert cat == [49406, 320, 1125, 539, 320, 2368, 49407]
