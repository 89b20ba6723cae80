"""The things with weights, and what measures them: arrays in, arrays out."""
