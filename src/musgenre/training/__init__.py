"""How a network learns. Only the loop is Lightning's; the network stays a plain ``nn.Module``."""
