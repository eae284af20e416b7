"""Models of transformers: their names, how they load, their layers, how they are evaluated, quantised weights."""
