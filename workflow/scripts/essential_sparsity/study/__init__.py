"""What a configuration asks for: its tables, grid, series, references, requests. Every parse of the Snakefile imports this wing: no torch."""
