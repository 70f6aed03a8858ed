"""Draw where the pruned weights of one model, pattern and sparsity sit: layer by role."""

import argparse

from essential_sparsity import cli, tables
from essential_sparsity.figures import heat_maps, style


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", required=True, help="table of layers")
    parser.add_argument("--model", required=True, help="row of the models table")
    parser.add_argument("--pattern", required=True, help="global, layerwise, random, erk, erk-random, nm4, …")
    parser.add_argument("--sparsity", required=True, type=float, help="a level of the grid")
    parser.add_argument("--label", help="name of the model in the title (default: its row's name)")
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    layers = tables.read(args.layers, "layers")
    style.save(heat_maps.heat_map(layers, args.model, args.pattern, args.sparsity, args.label), args.out)


if __name__ == "__main__":
    cli.run(main)
