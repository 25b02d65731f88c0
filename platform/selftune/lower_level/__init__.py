"""The lower level: objectives, their losses, how a network is trained, and smooth problems."""
