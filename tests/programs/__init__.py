"""What XLA makes of an update for a TPU and a GPU, without either: `make programs`."""
