"""One picture with OpenVINO GenAI, from the graphs of a bundle; for `benchmarks.full_size`.

It runs in an environment of its own, beside ours:

    python -m venv work/openvino && work/openvino/bin/pip install \
        openvino-genai==2026.4.1 openvino-tokenizers==2026.4.1 transformers==5.23.0 pillow
    work/openvino/bin/python benchmarks/genai_picture.py convert BUNDLE FUSED MODEL
    work/openvino/bin/python benchmarks/genai_picture.py generate MODEL STEPS OUT
"""

import shutil
import sys
from pathlib import Path

PROMPT = "cracked skin, portrait of a woman"
SIZE = 512
GUIDANCE = 7.5
COMPONENTS = {"text_encoder": "text_encoder", "unet": "unet", "vae_decoder": "vae"}
"""The graphs that it needs, and where the fused model has their configurations."""


def convert(bundle: Path, fused: Path, model: Path) -> None:
    """Make what `Text2ImagePipeline` opens: OpenVINO's own files, with the dtypes that it feeds."""
    import openvino
    from openvino.preprocess import PrePostProcessor
    from openvino_tokenizers import convert_tokenizer
    from transformers import AutoTokenizer

    for component, source in COMPONENTS.items():
        graph = openvino.convert_model(bundle / component / "model.onnx")
        wrapper = PrePostProcessor(graph)
        for tensors, ports in ((wrapper.input, graph.inputs), (wrapper.output, graph.outputs)):
            for index, port in enumerate(ports):
                if "timestep" in port.names:
                    tensors(index).tensor().set_element_type(openvino.Type.i64)
                elif port.element_type.is_real():
                    tensors(index).tensor().set_element_type(openvino.Type.f32)
        (model / component).mkdir(parents=True)
        openvino.save_model(wrapper.build(), model / component / "openvino_model.xml")
        shutil.copy(fused / source / "config.json", model / component)
    for name in ("scheduler", "tokenizer"):
        shutil.copytree(fused / name, model / name)
    shutil.copy(fused / "model_index.json", model)
    tokenizer = convert_tokenizer(AutoTokenizer.from_pretrained(str(fused / "tokenizer")))
    openvino.save_model(tokenizer, model / "tokenizer" / "openvino_tokenizer.xml")


def generate(model: Path, steps: int, out: Path) -> None:
    """Make one picture as its documentation does, with fixed sizes, which are its fastest."""
    import openvino_genai
    from PIL import Image

    pipeline = openvino_genai.Text2ImagePipeline(str(model))
    config = model / "scheduler" / "scheduler_config.json"
    scheduler = openvino_genai.Scheduler.from_config(
        config, openvino_genai.Scheduler.Type.EULER_DISCRETE
    )
    pipeline.set_scheduler(scheduler)  # one call of the UNet a step, as the others
    pipeline.reshape(1, SIZE, SIZE, GUIDANCE)
    pipeline.compile("CPU")
    pixels = pipeline.generate(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        width=SIZE,
        height=SIZE,
        rng_seed=11,
    )
    Image.fromarray(pixels.data[0]).save(out)


if __name__ == "__main__":
    if sys.argv[1] == "convert":
        convert(*map(Path, sys.argv[2:5]))
    else:
        generate(Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
