"""The command line of `shard` alone: `python -m pipeline`, which needs no TensorFlow."""

from pipeline import options, streams
from pipeline.config import ShardConfig
from pipeline.shard import shard
from pipeline.terminal import Parser, configure, exit_status
from pipeline.transforms.runner import check_beam_flags


def main(arguments: list[str] | None = None) -> int:
    """Runs `shard` with `arguments`, by default those of the process; returns the exit status."""

    def command() -> None:
        parser = Parser(prog="python -m pipeline", description="Images → shards.")
        options.add_flags(parser, ShardConfig)
        flags, beam_flags = parser.parse_known_args(arguments)
        configure()
        check_beam_flags(beam_flags, parser.flags())
        shard(options.from_flags(ShardConfig, vars(flags), beam_options=tuple(beam_flags)))

    with streams.forgiving():
        return exit_status(command)
