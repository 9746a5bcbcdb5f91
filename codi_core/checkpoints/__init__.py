"""Model folders: names, conversion, strict loading and saving."""
