"""The commands that turn images into codes and back without serving, in one thread."""
