"""The main job: training the textbook's network on real digits, and gradient workloads beside the peers' figures."""
