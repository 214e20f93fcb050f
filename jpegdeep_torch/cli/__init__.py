"""The command `jpegdeep` and its subcommands."""
