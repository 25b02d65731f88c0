"""What a network is: its layers in call order, its state, its modes, its number types."""
