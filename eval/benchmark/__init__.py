"""What the laboratory's commands share."""
