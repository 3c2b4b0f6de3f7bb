"""The algebras by which LoRA files change a weight, one module each."""
