"""Train, watch and steer a swarm of neural networks on one host."""
