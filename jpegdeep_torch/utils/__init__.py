"""What several rooms need: files, machine, memory, tables of text."""
