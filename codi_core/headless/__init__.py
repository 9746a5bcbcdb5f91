"""Running saved workflows where ComfyUI is not installed."""
