"""The detector inside other projects' engines.  Each module needs the extra of its name."""
