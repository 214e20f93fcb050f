"""Training: targets and loss, augmentation, and the engine behind `python -m jpegdeep_torch.training`."""
