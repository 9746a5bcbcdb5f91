"""`python -m comfyui_codi.codi_core`: the same as `codi`."""

from .cli import main

main()
