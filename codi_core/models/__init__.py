"""The diffusion networks: one diffuser per modality, environment encoders, joint denoising."""
