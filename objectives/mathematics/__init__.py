"""What the functions of several entries compute alike."""
