"""Training: the procedural world and the stages autoencode, bridge, diffuse, align."""
