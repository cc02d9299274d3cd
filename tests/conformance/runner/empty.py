"""Run so that an image is made, from which the programs of this folder can then start."""
