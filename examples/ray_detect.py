"""Detections of many JPEGs by Ray Data: files in, Parquet out, on a pool of actors that grows and shrinks.

python examples/ray_detect.py ckpt.safetensors s3://bucket/photos/ s3://bucket/found/ --actors 1 64

For WebDataset's shards: `ray.data.read_webdataset(paths, decoder=False)`; its column `jpg` is taken as it is.
"""

from __future__ import annotations

import argparse

import ray

from jpegdeep_torch.integrations.ray import DetectorActor


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("weights", help="a safetensors file, at this path on every node")
    p.add_argument("source", help="a folder of JPEGs")
    p.add_argument("target", help="a folder of Parquet files")
    p.add_argument("--actors", type=int, nargs=2, default=(1, 4), metavar=("LEAST", "MOST"))
    p.add_argument("--threshold", type=float, default=0.5)
    p.add_argument("--gpu", action="store_true", help="an actor a GPU, in place of an actor a core")
    args = p.parse_args()
    # A core each and one thread each: more threads in an actor gain less than more actors do.
    resources = {"num_gpus": 1, "num_cpus": 8} if args.gpu else {"num_cpus": 1}
    options = {"batch_size": 64, "workers": 7, "threads": 1} if args.gpu else {"batch_size": 8, "threads": 1}
    found = ray.data.read_binary_files(args.source, include_paths=True).map_batches(
        DetectorActor,
        fn_constructor_args=[args.weights],
        fn_constructor_kwargs={"threshold": args.threshold, **options},
        batch_size=8 * options["batch_size"],  # whole batches of the network's
        compute=ray.data.ActorPoolStrategy(min_size=args.actors[0], max_size=args.actors[1]),
        **resources,
    )
    found.write_parquet(args.target)


if __name__ == "__main__":
    main()
