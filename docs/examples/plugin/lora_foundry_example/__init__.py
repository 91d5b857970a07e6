"""A plugin of LoRA Foundry, as small as one can be that does something of each kind."""
