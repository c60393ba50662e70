"""What runs in a container: one tool per toolchain, named like its image."""
