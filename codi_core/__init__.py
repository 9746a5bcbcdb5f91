"""The CoDi system: prompt encoders, mixing, joint diffusion, decoders. Knows nothing of ComfyUI."""
