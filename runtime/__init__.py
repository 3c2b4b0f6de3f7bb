"""The online half: pictures from a bundle, with numpy, pillow, tokenizers and one backend."""
