"""selftune tunes regularization while the network trains."""
