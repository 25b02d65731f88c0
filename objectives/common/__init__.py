"""What several entries are built from: bases, networks beside the trained one, counts."""
